"""Constructor arguments are checked once, with sentences that say what would work."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.core.threat import View


def one_of(owner: object, name: str, value: object, allowed: Sequence[object]) -> None:
    """Refuse a value that is not in the list."""
    if value not in allowed:
        listed = ", ".join("null" if a is None else str(a) for a in allowed)
        raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}; use one of: {listed}.")


def in_range(
    owner: object, name: str, value: float, low: float, high: float = float("inf"), open_low=False
) -> None:
    """Refuse a number outside [low, high], or (low, high] with `open_low`; NaN never passes."""
    above = value > low if open_low else value >= low
    if not (above and value <= high and isfinite(value)):
        left, right = ("(" if open_low else "["), (f"{high:g}]" if isfinite(high) else "inf)")
        raise ConfigError(
            f"{type(owner).__name__}.{name} is {value!r}; use a number in {left}{low:g}, {right}."
        )


def benign(owner: object, view: View) -> Tensor:
    """The benign rows (n - m, d); refused where the view withholds them or there are none."""
    if view.benign is None or len(view.benign) == 0:
        raise ConfigError(
            f"{type(owner).__name__} looks at benign rows and this view has none: "
            "grant Knowledge.UPDATES and keep at least one honest client."
        )
    return view.benign


def poisoned(owner: object, view: View) -> Tensor:
    """The rows (m, d) trained on poisoned data; refused where the round trained none."""
    if view.poisoned is None:
        raise ConfigError(
            f"{type(owner).__name__} sends rows trained on poisoned data and the view has none: "
            "train the controlled clients on `poison(dataset, ...)` first."
        )
    return view.poisoned
