"""Inputs: what describes n followers becomes float64 vectors of one length, or a sentence why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedalign.core.errors import ConfigError

Numbers = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Range:
    """What a number may be: at least `low` (above it where `open`), and inf only if `infinite`."""

    low: float = 0.0
    open: bool = False
    infinite: bool = False


def columns(owner: Any, ranges: Mapping[str, Range]) -> None:
    """Replace these fields of a frozen dataclass by (n,) float64 vectors; scalars are spread.

    ConfigError: a length that fits no other, a value that is not finite or out of its range.
    """
    name = type(owner).__name__
    found = {field: _vector(name, field, getattr(owner, field)) for field in ranges}
    lengths = {len(values) for values in found.values() if len(values) != 1}
    if len(lengths) > 1:
        told = ", ".join(f"{field} {len(values)}" for field, values in found.items())
        raise ConfigError(f"{name} needs one value per follower, all of one length, got {told}.")
    n = lengths.pop() if lengths else 1
    for field, values in found.items():
        _check(name, field, values, ranges[field])
        spread = np.ascontiguousarray(np.broadcast_to(values, (n,)))
        spread.flags.writeable = False
        object.__setattr__(owner, field, spread)


def number(owner: Any, field: str, allowed: Range) -> None:
    """Check one scalar field and make it a float."""
    values = _vector(type(owner).__name__, field, getattr(owner, field))
    if len(values) != 1:
        raise ConfigError(f"{type(owner).__name__}: {field} is one number, got {len(values)}.")
    _check(type(owner).__name__, field, values, allowed)
    object.__setattr__(owner, field, float(values[0]))


def prices(owner: Any, price: Numbers, names: Sequence[str]) -> np.ndarray:
    """The announced prices as a float64 vector, one per name, finite and not negative."""
    values = np.atleast_1d(np.asarray(price, dtype=np.float64))
    if values.shape != (len(names),):
        raise ConfigError(
            f"{type(owner).__name__} takes {len(names)} prices ({', '.join(names)}), "
            f"got {values.size}."
        )
    for name, value in zip(names, values, strict=True):
        _check(type(owner).__name__, name, np.array([value]), Range())
    return values


def _vector(owner: str, field: str, given: Any) -> np.ndarray:
    try:
        values = np.atleast_1d(np.array(given, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{owner}: {field} must be numbers, got {given!r}.") from error
    if values.ndim != 1 or not values.size:
        raise ConfigError(f"{owner}: {field} must be one vector, got shape {values.shape}.")
    return values


def _check(owner: str, field: str, values: np.ndarray, allowed: Range) -> None:
    finite = np.isfinite(values) | (allowed.infinite & (values == np.inf))
    fits = finite & ((values > allowed.low) if allowed.open else (values >= allowed.low))
    if fits.all():
        return
    first = int(np.argmin(fits))
    least = f"{'above' if allowed.open else 'at least'} {allowed.low:g}"
    limit = "" if allowed.infinite else " and finite"
    raise ConfigError(
        f"{owner}: {field} must be {least}{limit}, got {values[first]:g} (follower {first})."
    )
