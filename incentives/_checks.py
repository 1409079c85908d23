"""Checks that payment rules share; each refuses with a sentence."""

from __future__ import annotations

from typing import Any

from fedalign.core.errors import ConfigError


def whole(owner: Any, field: str, least: int = 0) -> None:
    """A whole number of at least `least`."""
    value = getattr(owner, field)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"{type(owner).__name__}.{field} must be a whole number of {least} or more, got "
            f"{value!r}."
        )


def between(owner: Any, field: str, low: float, high: float = float("inf")) -> None:
    """A finite number in [low, high]."""
    value = getattr(owner, field)
    fine = isinstance(value, int | float) and low <= value <= high and value != float("inf")
    if not fine:
        limit = f"at least {low:g}" if high == float("inf") else f"in [{low:g}, {high:g}]"
        raise ConfigError(
            f"{type(owner).__name__}.{field} must be finite and {limit}, got {value!r}."
        )


def one_of(owner: Any, field: str, options: tuple[str, ...]) -> None:
    """One of these words."""
    value = getattr(owner, field)
    if value not in options:
        raise ConfigError(
            f"{type(owner).__name__}.{field} is one of {', '.join(options)}, got {value!r}."
        )


def interval(owner: Any, field: str, low: float, open: bool = False, whole: bool = False) -> None:
    """A pair (least, most) of finite numbers, least from `low` on (above it where `open`); kept
    as a tuple."""
    try:
        least, most = getattr(owner, field)
        kinds = int if whole else int | float
        fine = all(isinstance(v, kinds) and not isinstance(v, bool) for v in (least, most))
        fine = fine and (least > low if open else least >= low) and least <= most < float("inf")
    except (TypeError, ValueError):
        fine = False
    if not fine:
        numbers = "whole numbers" if whole else "numbers"
        raise ConfigError(
            f"{type(owner).__name__}.{field} must be two {numbers} [least, most] with "
            f"{'above' if open else 'at least'} {low:g} <= most, got {getattr(owner, field)!r}."
        )
    object.__setattr__(owner, field, (least, most))
