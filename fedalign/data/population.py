"""Population: a table of clients, one row each, drawn from distributions or read from a file.

Paper: Pan et al., "Very Large-Scale Multi-Agent Simulation in AgentScope", arXiv 2407.17789
(populations from attribute distributions).
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedalign.core.digest import canonical
from fedalign.core.errors import ConfigError, DataError
from fedalign.core.seeds import Seeds
from fedalign.data.marginals import check, finish, transform

ATTRIBUTES: tuple[Mapping[str, Any], ...] = (
    {"name": "region", "kind": "categorical",
     "shares": {"north": 0.3, "south": 0.3, "east": 0.2, "west": 0.2}},
    {"name": "device_class", "kind": "categorical",
     "shares": {"phone": 0.6, "tablet": 0.2, "laptop": 0.15, "server": 0.05}},
    {"name": "flops", "kind": "lognormal", "median": 2e9, "sigma": 0.5, "by": "device_class",
     "scale": {"phone": 1.0, "tablet": 2.0, "laptop": 10.0, "server": 50.0}},
    {"name": "up_mbps", "kind": "lognormal", "median": 10.0, "sigma": 0.6},
    {"name": "down_mbps", "kind": "lognormal", "median": 40.0, "sigma": 0.6},
    {"name": "p_online", "kind": "beta", "a": 8.0, "b": 2.0},
    {"name": "n_samples", "kind": "lognormal", "median": 80.0, "sigma": 0.5, "low": 16,
     "high": 400, "whole": True},
    {"name": "topics", "kind": "dirichlet", "alpha": 0.5, "size": 10},
    {"name": "pref_weights", "kind": "dirichlet", "alpha": 1.0, "size": 5},
    {"name": "label_noise", "kind": "beta", "a": 1.0, "b": 30.0},
    {"name": "honesty", "kind": "beta", "a": 9.0, "b": 1.0},
    {"name": "role", "kind": "categorical",
     "shares": {"honest": 0.9, "faker": 0.05, "free_rider": 0.03, "sybil": 0.02}},
    {"name": "cost_per_flop", "kind": "lognormal", "median": 1e-12, "sigma": 0.4},
)  # fmt: skip
CORRELATIONS: tuple[tuple[str, str, float], ...] = (
    ("flops", "up_mbps", 0.5),
    ("up_mbps", "down_mbps", 0.7),
    ("flops", "cost_per_flop", -0.3),
)
_FORMAT = "fedalign population 1"
_PIECE = 65_536  # rows


@dataclass(frozen=True)
class Population:
    """columns: attribute -> (n,), or (n, size) where it is a Dirichlet draw; codes where it is
    categorical. attributes, correlations: what they were drawn from; seed: with which. manifest:
    SHA-256 of every column, also of those that were not read."""

    columns: Mapping[str, np.ndarray]
    attributes: Sequence[Mapping[str, Any]]
    correlations: Sequence[Sequence[Any]]
    seed: int
    manifest: Mapping[str, str]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def values(self, name: str) -> Sequence[str]:
        """The values of a categorical attribute, in the order of its codes."""
        return list(self._node(name)["shares"])

    def digest(self) -> str:
        """SHA-256 over what it was drawn from and over every column."""
        return hashlib.sha256(canonical([self._source(), dict(self.manifest)]).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """One .npz file, written aside and renamed; it carries the SHA-256 of every column."""
        path = Path(path)
        note = json.dumps({"format": _FORMAT, "sha256": dict(self.manifest), **self._source()})
        aside = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            np.savez(file, __note__=np.frombuffer(note.encode(), np.uint8), **self.columns)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)

    def _source(self) -> dict[str, Any]:
        return {
            "attributes": [dict(node) for node in self.attributes],
            "correlations": [list(pair) for pair in self.correlations],
            "seed": self.seed,
        }

    def _node(self, name: str) -> Mapping[str, Any]:
        return next(node for node in self.attributes if node["name"] == name)


def draw(
    clients: int,
    seed: int,
    attributes: Sequence[Mapping[str, Any]] = ATTRIBUTES,
    correlations: Sequence[Sequence[Any]] = CORRELATIONS,
) -> Population:
    """clients: n >= 1. attributes: see `marginals.check`. correlations: (one, other, rho in
    (-1, 1)) of the normals behind two attributes. The same for the same arguments on every
    machine; an attribute keeps its values when others come or go. Raises ConfigError."""
    if clients < 1:
        raise ConfigError(f"A population needs clients >= 1, got {clients}.")
    for node in attributes:
        check(node)
    nodes = {node["name"]: node for node in attributes}
    seeds, columns = Seeds(seed), {}
    normals = _normals(nodes, correlations, clients, seeds)
    for name, node in nodes.items():
        if node["kind"] == "dirichlet":
            columns[name] = _dirichlet(node, clients, seeds.at("population", attribute=name))
            continue
        values = transform(node, normals.pop(name))
        if node.get("by") is not None:
            values = values * _factors(node, nodes, columns)
        columns[name] = finish(node, values)
    manifest = {name: _of(column) for name, column in columns.items()}
    return Population(columns, list(attributes), list(correlations), seed, manifest)


def load(path: str | Path, columns: Sequence[str] | None = None) -> Population:
    """A file of `save`, every column read checked against its SHA-256. columns: only these."""
    path = Path(path).expanduser()
    try:
        with np.load(path, allow_pickle=False) as file:
            note = json.loads(bytes(file["__note__"]).decode())
            wanted = list(note["sha256"]) if columns is None else list(columns)
            absent = [name for name in wanted if name not in note["sha256"]]
            if absent or note["format"] != _FORMAT:
                raise DataError(
                    f"{path} lacks {', '.join(absent) or 'the format ' + _FORMAT}; it has "
                    f"{', '.join(note['sha256'])}. Write it again with `fedalign population`."
                )
            found = {name: file[name] for name in wanted}
    except FileNotFoundError:
        raise DataError(
            f"There is no population at {path}: write one with "
            f"`fedalign population {path} clients=20000 seed=0`."
        ) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no population file or is damaged ({error}): write it again with "
            "`fedalign population`."
        ) from error
    for name, column in found.items():
        if _of(column) != note["sha256"][name]:
            raise DataError(f"{path}: column {name} does not have the SHA-256 in its manifest.")
    if len({len(column) for column in found.values()}) != 1:
        raise DataError(f"{path}: its columns differ in length.")
    return Population(found, note["attributes"], note["correlations"], note["seed"], note["sha256"])


def _normals(
    nodes: Mapping[str, Mapping[str, Any]],
    correlations: Sequence[Sequence[Any]],
    clients: int,
    seeds: Seeds,
) -> dict[str, np.ndarray]:
    """Standard normals (n,) of every attribute but the Dirichlet ones, correlated as asked."""
    free = [name for name, node in nodes.items() if node["kind"] != "dirichlet"]
    drawn = {n: seeds.at("population", attribute=n).standard_normal(clients) for n in free}
    tied = [name for name in free if any(name in pair[:2] for pair in correlations)]
    matrix = np.eye(len(tied))
    for one, other, rho in correlations:
        if one not in tied or other not in tied or one == other or not -1 < rho < 1:
            raise ConfigError(
                f"A correlation names two attributes that are no Dirichlet draws, and a number in "
                f"(-1, 1); got {one}, {other}, {rho}. There are {', '.join(free)}."
            )
        i, j = tied.index(one), tied.index(other)
        matrix[i, j] = matrix[j, i] = rho
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ConfigError(
            f"The correlations of {', '.join(tied)} contradict each other (the matrix is not "
            "positive definite): lower some of them."
        ) from None
    own = {name: drawn[name] for name in tied}
    for i, name in enumerate(tied):
        drawn[name] = sum(factor[i, j] * own[tied[j]] for j in range(i + 1))
    return drawn


def _dirichlet(node: Mapping[str, Any], clients: int, rng: np.random.Generator) -> np.ndarray:
    """(n, size) float32, drawn piece by piece: 10^6 clients need no float64 matrix of theirs."""
    shares = np.empty((clients, int(node["size"])), dtype=np.float32)
    for start in range(0, clients, _PIECE):
        piece = shares[start : start + _PIECE]
        drawn = rng.standard_gamma(float(node["alpha"]), piece.shape)
        drawn = np.maximum(drawn, np.finfo(np.float32).tiny)  # nobody has nothing at all
        piece[:] = drawn / drawn.sum(axis=1, keepdims=True)
    return shares


def _factors(node, nodes, columns) -> np.ndarray:
    by = node["by"]
    if by not in columns or nodes[by]["kind"] != "categorical":
        raise ConfigError(
            f"Attribute {node['name']} scales by {by}: that must be a categorical attribute "
            "listed before it."
        )
    values, scale = list(nodes[by]["shares"]), node.get("scale") or {}
    absent = [value for value in values if value not in scale]
    if absent:
        raise ConfigError(f"Attribute {node['name']}: no scale for {', '.join(absent)} of {by}.")
    return np.array([float(scale[value]) for value in values])[columns[by]]


def _of(column: np.ndarray) -> str:
    kind = f"{column.dtype.str}{column.shape}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(column).tobytes()).hexdigest()
