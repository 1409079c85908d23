"""`fedalign population FILE clients=20000 seed=0`: write a population, or say what a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.run_folder import load_yaml
from experiments.typeset import Entry, Table
from fedalign.core.errors import ConfigError
from fedalign.data.personas import background
from fedalign.data.population import ATTRIBUTES, CORRELATIONS, Population, draw, load

USAGE = """\
fedalign population FILE                        what a population file holds; checks its SHA-256
fedalign population FILE clients=20000 seed=0   draw one and write it
fedalign population FILE clients=N attributes=YAML
                                                from your own attributes and correlations
A study reads it with data=population data.path=FILE."""
KEYS = ("clients", "seed", "attributes")


def main(words: Sequence[str]) -> int:
    """Returns the exit code."""
    if not words or "=" in words[0]:
        raise ConfigError(f"fedalign population needs a file to write or to read.\n{USAGE}")
    path, asked = Path(words[0]), _asked(words[1:])
    if asked:
        found = _drawn(asked)
        found.save(path)
    else:
        found = load(path)
    console = Console()
    console.print(_table(found).terminal(console.width))
    for client in range(min(2, len(found))):
        console.print(background(found, client), highlight=False)
    console.print(f"{path}: {len(found)} clients, sha256 {found.digest()}", highlight=False)
    return 0


def _asked(words: Sequence[str]) -> dict[str, str]:
    asked = dict(word.partition("=")[::2] for word in words)
    wrong = sorted(set(asked) - set(KEYS))
    if wrong or (asked and "clients" not in asked):
        raise ConfigError(
            f"fedalign population takes {', '.join(KEYS)}, and clients at least; got "
            f"{', '.join(words)}.\n{USAGE}"
        )
    return asked


def _drawn(asked: dict[str, str]) -> Population:
    try:
        clients, seed = int(asked["clients"]), int(asked.get("seed", 0))
    except ValueError:
        raise ConfigError(f"clients and seed are whole numbers, got {asked}.") from None
    attributes: Sequence[Any] = ATTRIBUTES
    correlations: Sequence[Any] = CORRELATIONS
    if "attributes" in asked:
        source = Path(asked["attributes"]).expanduser()
        node = load_yaml(source) if source.is_file() else None
        if not isinstance(node, dict) or "attributes" not in node:
            raise ConfigError(
                f"{source} must be a YAML file with a list `attributes` of {{name, kind, ...}} and, "
                "if wanted, a list `correlations` of [one, other, rho]."
            )
        attributes, correlations = node["attributes"], node.get("correlations", ())
    return draw(clients, seed, attributes, correlations)


def _table(population: Population) -> Table:
    """One row per attribute."""
    rows = []
    for node in population.attributes:
        name, values = node["name"], population.columns[node["name"]]
        if node["kind"] == "categorical":
            counts = np.bincount(values, minlength=len(node["shares"]))
            told = ", ".join(f"{v} {c}" for v, c in zip(node["shares"], counts, strict=True))
            rows.append([name, node["kind"], told])
            continue
        low, middle, high = (float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95))
        rows.append([name, node["kind"], f"5 %, median, 95 %: {low:.3g}, {middle:.3g}, {high:.3g}"])
    return Table(
        name="population",
        caption=f"{len(population)} clients, seed {population.seed}",
        header=["attribute", "kind", "values"],
        rows=[[Entry.of(cell) for cell in row] for row in rows],
        notes=[],
    )
