"""FLAME: keep the majority cluster by angle, clip to the median length, add a little noise.

Paper: Nguyen et al., "FLAME: Taming Backdoors in Federated Learning", USENIX Security 2022,
Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.errors import ConfigError
from fedalign.core.gram import gram, squared_distances
from fedalign.core.threat import Family, Space


@dataclass(frozen=True)
class FLAME(Defense):
    """Mean of the clipped updates of the majority cluster, plus N(0, (noise S)^2). f < n / 2.

    noise: lambda >= 0, in units of S, the median update length; drawn from `context.rng`.
    cluster: "majority_linkage", the first component of more than n / 2 clients when ever longer
    edges are added (single linkage); or "hdbscan" of scikit-learn, which the paper uses.
    space: angles between "update"s, or between "model"s (the paper's local models) where
    `context.model` is given. With noise the result is no combination of rows: no coefficients.
    """

    noise: float = 0.001
    cluster: Literal["majority_linkage", "hdbscan"] = "majority_linkage"
    space: Space = "update"

    needs: ClassVar[frozenset[str]] = frozenset()
    family: ClassVar[Family] = "cosine"

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ConfigError(f"FLAME's noise must be 0 or more (vision: 0.001), got {self.noise}.")
        if self.cluster not in ("majority_linkage", "hdbscan"):
            raise ConfigError(
                f"FLAME clusters by 'majority_linkage' or 'hdbscan', got '{self.cluster}'."
            )
        if self.space not in ("update", "model"):
            raise ConfigError(f"FLAME compares space 'update' or 'model', got '{self.space}'.")

    @property
    def linear(self) -> bool:
        return self.noise == 0

    def minimum(self, byzantine_count: int) -> int:
        return 2 * byzantine_count + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        require(self, len(updates), context.byzantine_count or 0)
        model = context.model if self.space == "model" else None
        distances, lengths = _cosine_distances(updates, model)
        group = _majority if self.cluster == "majority_linkage" else _hdbscan
        kept = torch.from_numpy(group(distances.cpu().numpy())).to(updates.device)
        bound = lengths.quantile(0.5)
        factors = torch.where(lengths > bound, bound / lengths, 1.0)
        result = Aggregate.combine(
            updates,
            torch.where(kept, factors, 0.0) / kept.sum(),
            accepted=kept,
            scores=(distances.sum(dim=1) / max(len(updates) - 1, 1)),
            notes={"clip_bound": float(bound)},
        )
        return self._blurred(result, float(bound), context.rng)

    def _blurred(self, result: Aggregate, bound: float, rng: np.random.Generator) -> Aggregate:
        if self.noise == 0:
            return result
        drawn = torch.from_numpy(rng.standard_normal(len(result.vector))).to(result.vector.device)
        vector = (result.vector + self.noise * bound * drawn).to(result.vector.dtype)
        return replace(result, vector=vector, coefficients=None)


def _cosine_distances(updates: Tensor, model: Tensor | None) -> tuple[Tensor, Tensor]:
    """((n, n) 1 - cos(x_i, x_j), (n,) lengths of the updates).

    Near rows by 1 - cos = (|x_i - x_j|^2 - (|x_i| - |x_j|)^2) / (2 |x_i| |x_j|): models that share
    a long common part lose no digits this way. Far ones by their inner product.
    """
    n = len(updates)
    products = gram(updates) if model is None else gram(updates, model)
    own = products[:n, :n]
    squares, inner, lengths = own.diagonal(), own, own.diagonal().sqrt()
    apart = squares[:, None] - squares[None, :]  # |x_i|^2 - |x_j|^2
    if model is not None:
        along = products[:n, n]
        apart = apart + 2 * (along[:, None] - along[None, :])
        inner = own + along[:, None] + along[None, :] + products[n, n]
    norms = inner.diagonal().clamp(min=0).sqrt()
    total, product = norms[:, None] + norms[None, :], norms[:, None] * norms[None, :]
    between = squared_distances(own)
    unequal = (apart / torch.where(total > 0, total, 1)).square()
    near = (between - unequal).clamp(min=0) / (2 * product)
    distances = torch.where(between < product, near, (1 - inner / product).clamp(0, 2))
    distances = torch.where(product > 0, distances, 1.0)  # a row of zeros has no direction
    return distances.fill_diagonal_(0), lengths


def _majority(distances: np.ndarray) -> np.ndarray:
    """(n,) bool: the first component with more than n / 2 members, all ties of an edge joined."""
    n = len(distances)
    rows, columns = np.triu_indices(n, k=1)
    weights = distances[rows, columns]
    order = np.argsort(weights, kind="stable")
    component, size, level = list(range(n)), [1] * n, np.inf
    if n == 1:
        return np.ones(1, dtype=bool)
    for edge in order.tolist():
        if weights[edge] > level:
            break
        a, b = _root(component, int(rows[edge])), _root(component, int(columns[edge]))
        if a != b:
            component[b] = a
            size[a] += size[b]
            if size[a] > n // 2:
                level = weights[edge]
    roots = [_root(component, i) for i in range(n)]
    return np.array([size[root] > n // 2 for root in roots])


def _root(component: list[int], item: int) -> int:
    while component[item] != item:
        component[item] = component[component[item]]
        item = component[item]
    return item


def _hdbscan(distances: np.ndarray) -> np.ndarray:
    """(n,) bool: the largest cluster, everybody where there is none."""
    from sklearn.cluster import HDBSCAN

    n = len(distances)
    if n < 3:  # a cluster of one is none
        return np.ones(n, dtype=bool)
    labels = HDBSCAN(
        min_cluster_size=n // 2 + 1,
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    ).fit_predict(distances)
    found = labels[labels >= 0]
    return labels == np.bincount(found).argmax() if len(found) else np.ones(n, dtype=bool)
