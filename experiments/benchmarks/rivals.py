"""Rivals: the same rules as Flower and ByzFL offer them, as functions of one matrix.

Nothing here is needed to run a study. Flower is an optional extra; ByzFL 0.0.11 is installed with
`pip install --no-deps byzfl==0.0.11`, because its root imports plotting and vision libraries.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch

Call = Callable[[np.ndarray], Any]  # one aggregation of an (n, d) float32 matrix

BYZFL = "pip install --no-deps byzfl==0.0.11"
FLOWER = "pip install 'fedalign[dev]'"

_OUTSIDE_BYZFL: Mapping[str, Callable[[ModuleType, int], Any]] = {
    "fedavg": lambda a, f: a.Average(),
    "median": lambda a, f: a.Median(),
    "trimmed_mean": lambda a, f: a.TrMean(f),
    "meamed": lambda a, f: a.Meamed(f),
    "krum": lambda a, f: a.Krum(f),
    "multi_krum": lambda a, f: a.MultiKrum(f),
    "geometric_median": lambda a, f: a.GeometricMedian(nu=0.1, T=3),
    "centered_clipping": lambda a, f: a.CenteredClipping(L=3, tau=10.0),
    "nnm+fedavg": lambda a, f: _chain(a.NNM(f), a.Average()),
    "arc+fedavg": lambda a, f: _chain(a.ARC(f), a.Average()),
}


def byzfl_module() -> ModuleType | None:
    """`byzfl.aggregators`, past the package's root; None where ByzFL is not installed.

    A stub whose `__path__` is the install folder takes the root's place.
    """
    if "byzfl" not in sys.modules:
        found = importlib.util.find_spec("byzfl")
        if found is None:
            return None
        stub = ModuleType("byzfl")
        stub.__path__ = list(found.submodule_search_locations or [])
        sys.modules["byzfl"] = stub
    return importlib.import_module("byzfl.aggregators")


def byzfl(rule: str, byzantine: int, backend: str) -> Call | None:
    """ByzFL's version of a rule on "numpy" or "torch" matrices; None where it has none."""
    module = byzfl_module()
    if module is None or rule not in _OUTSIDE_BYZFL:
        return None
    build = _OUTSIDE_BYZFL[rule]
    wrap = torch.from_numpy if backend == "torch" else np.asarray
    copies = rule.startswith("arc")  # it overwrites its input

    def call(matrix: np.ndarray) -> Any:  # a fresh object: some remember the last call
        return build(module, byzantine)(wrap(matrix.copy() if copies else matrix))

    return call


def flower(rule: str, byzantine: int) -> Call | None:
    """Flower's version of a rule; None where it has none or is not installed."""
    if importlib.util.find_spec("flwr") is None:
        return None
    module = importlib.import_module("flwr.server.strategy.aggregate")
    f = byzantine
    calls: dict[str, Callable[[list], Any]] = {
        "fedavg": module.aggregate,
        "median": module.aggregate_median,
        "trimmed_mean": lambda r: module.aggregate_trimmed_avg(r, (f + 0.01) / len(r)),
        "krum": lambda r: module.aggregate_krum(r, f, 0),
        "multi_krum": lambda r: module.aggregate_krum(r, f, len(r) - f),
        "bulyan": lambda r: module.aggregate_bulyan(r, f, module.aggregate_krum, to_keep=0),
    }
    if rule not in calls:
        return None
    return lambda matrix: calls[rule]([([row], 1) for row in matrix])


def _chain(first: Any, then: Any) -> Call:
    return lambda matrix: then(first(matrix))
