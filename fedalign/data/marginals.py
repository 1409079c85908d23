"""Marginals: how one attribute of a population is distributed, as a map of standard normals.

Paper: Nelsen, "An Introduction to Copulas", 2006, Section 2.3 (Gaussian copula: the normals of
several attributes may be correlated, each attribute keeps its own distribution).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtr

from fedalign.core.errors import ConfigError

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "categorical": ("shares",),
    "normal": ("mean", "std"),
    "lognormal": ("median", "sigma"),
    "beta": ("a", "b"),
    "zipf": ("exponent", "most"),
    "dirichlet": ("alpha", "size"),
}
OPTIONAL = ("low", "high", "whole", "by", "scale")


def check(node: Mapping[str, Any]) -> None:
    """Refuse an attribute {name, kind, parameters of the kind, ...} that no draw can serve.

    low, high: limits. whole: rounded to whole numbers. by, scale: a categorical attribute listed
    before, and the factor of each of its values.
    """
    name, kind = node.get("name"), node.get("kind")
    if not name or kind not in PARAMETERS:
        raise ConfigError(
            f"An attribute needs a name and one of the kinds {', '.join(PARAMETERS)}, got {node}."
        )
    wanted, given = set(PARAMETERS[kind]), set(node) - {"name", "kind"}
    if not wanted <= given <= wanted | set(OPTIONAL):
        raise ConfigError(
            f"Attribute {name} ({kind}) takes {', '.join(sorted(wanted))} and, if wanted, "
            f"{', '.join(OPTIONAL)}; got {', '.join(sorted(given)) or 'nothing'}."
        )
    if kind == "categorical":
        shares = list(node["shares"].values())
        if min(shares, default=-1) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ConfigError(f"The shares of {name} must be 0 or more and add up to 1: {shares}.")
    positive = [key for key in ("std", "median", "sigma", "a", "b", "exponent", "most", "alpha",
                                "size") if key in wanted and not node[key] > 0]  # fmt: skip
    if positive:
        raise ConfigError(f"Attribute {name}: {', '.join(positive)} must be above 0, got {node}.")
    if node.get("scale") is not None and node.get("by") is None:
        raise ConfigError(f"Attribute {name} has a scale: say by which categorical attribute.")


def quotas(shares: Sequence[float], count: int) -> np.ndarray:
    """Whole numbers (k,) that add up to `count`, nearest to shares * count: largest remainders
    first, the earlier value where two are equal."""
    exact = np.asarray(shares, dtype=np.float64) * count
    whole = np.floor(exact + 1e-9).astype(np.int64)
    short = count - int(whole.sum())
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[:short]] += 1
    return whole


def transform(node: Mapping[str, Any], normal: np.ndarray) -> np.ndarray:
    """Standard normals (n,) -> values (n,); codes 0 .. k-1 of a categorical attribute, whose
    quotas are exact: low normals get the first value."""
    kind = node["kind"]
    if kind == "categorical":
        codes = np.empty(len(normal), dtype=np.int8)
        counts = quotas(list(node["shares"].values()), len(normal))
        codes[np.argsort(normal, kind="stable")] = np.repeat(np.arange(len(counts)), counts)
        return codes
    if kind == "normal":
        return node["mean"] + node["std"] * normal
    if kind == "lognormal":
        return node["median"] * np.exp(node["sigma"] * normal)
    if kind == "beta":
        return betaincinv(node["a"], node["b"], ndtr(normal))
    ranks = np.arange(1, int(node["most"]) + 1, dtype=np.float64)  # zipf, cut off at `most`
    below = np.cumsum(ranks ** -float(node["exponent"]))
    return 1 + np.searchsorted(below[:-1] / below[-1], ndtr(normal))


def finish(node: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """Limits, rounding, and the narrowest type that holds the kind."""
    if node["kind"] == "categorical":
        return values
    if node.get("low") is not None or node.get("high") is not None:
        values = np.clip(values, node.get("low"), node.get("high"))
    if node.get("whole") or node["kind"] == "zipf":
        return np.rint(values).astype(np.int32)
    return values.astype(np.float32)
