"""Refusals of constructor arguments, as sentences: what was asked, received, would work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from fedalign.core.gauge import factors
from fedalign.core.vectors import Layout


def check(holds: bool, rule: str, argument: str, wants: str, got: Any) -> None:
    """Raise ConfigError unless `holds`, e.g. "Krum's keep must be 1 or more, got 0."."""
    if not holds:
        raise ConfigError(f"{rule}'s {argument} must be {wants}, got {got!r}.")


def check_count(rule: str, count: int | None, argument: str = "byzantine_count") -> None:
    """A whole number, 0 or more, or None."""
    holds = count is None or (isinstance(count, int) and count >= 0)
    check(holds, rule, argument, "a whole number, 0 or more, or null", count)


def check_choice(rule: str, argument: str, value: str, choices: Sequence[str]) -> None:
    """One of a few words."""
    listed = " or ".join(f"'{choice}'" for choice in choices)
    check(value in choices, rule, argument, listed, value)


def check_space(rule: str, space: str) -> None:
    """What a rule tests on."""
    check_choice(rule, "space", space, ("update", "model"))


def factored(rule: str, context: Context) -> tuple[Layout, Tensor]:
    """Layout and model of a payload that holds LoRA factors."""
    if context.layout is None or context.model is None:
        raise ConfigError(
            f"{rule} multiplies factors, got a context without layout or model: pass "
            "Context(layout=..., model=...)."
        )
    if not factors(context.layout):
        raise ConfigError(
            f"{rule} finds no lora_A and lora_B in this payload: take peft=lora, or use the wrapped "
            "rule alone."
        )
    return context.layout, context.model
