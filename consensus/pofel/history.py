"""History: what a server's past votes are worth, as a bounded weight of its next one.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (scores accumulate); the decay, the bounded
map to weights and the penalties are our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from consensus.pofel.exact_logs import MICRO, exact, round_half_even
from consensus.pofel.shares import split
from fedalign.core.errors import ConfigError

PENALTIES = {  # micro-nats; equivocation also removes the server, and nothing it earned survives
    "late_reveal": 1_000_000,
    "withheld_data": 2_000_000,
    "bad_block": 3_000_000,
    "wrong_vote": 3_000_000,
    "equivocation": 30_000_000,
}


@dataclass(frozen=True)
class History:
    """H <- gamma H + clip(score, ±s_max), weight w_lo + (w_hi - w_lo) / (1 + exp((M - H) / T)).

    gamma_ppm: 0 .. 1000000, how much of the past stays. s_max_micro: > 0, in micro-nats.
    low_ppm, high_ppm: 0 < low <= high, the weights' range; no server outweighs another by more
    than high / low. temperature_micro: T > 0. M is the median of H.
    """

    gamma_ppm: int = 900_000
    s_max_micro: int = 3_000_000
    low_ppm: int = 500_000
    high_ppm: int = 1_500_000
    temperature_micro: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 <= self.gamma_ppm <= MICRO:
            raise ConfigError(f"gamma_ppm is 0 .. 1000000 (default 900000), got {self.gamma_ppm}.")
        if not 0 < self.low_ppm <= self.high_ppm:
            raise ConfigError(
                "History weights need 0 < low_ppm <= high_ppm (default 500000 and 1500000), got "
                f"{self.low_ppm} and {self.high_ppm}."
            )
        if self.s_max_micro <= 0 or self.temperature_micro <= 0:
            raise ConfigError(
                "History needs s_max_micro and temperature_micro above 0, got "
                f"{self.s_max_micro} and {self.temperature_micro}."
            )


def update_history(
    before: Sequence[int],
    scores: Sequence[int | None],
    penalties: Sequence[int],
    rule: History = History(),
) -> list[int]:
    """H of the next round, micro-nats. scores: None where absent. penalties: of this round's
    strikes, 0 for none; whoever is struck gets no score."""
    result = []
    for h, score, penalty in zip(before, scores, penalties, strict=True):
        gain = min(max(score or 0, -rule.s_max_micro), rule.s_max_micro)
        kept = round_half_even(rule.gamma_ppm * h, MICRO)
        result.append(kept - penalty if penalty else kept + gain)
    return result


def weights(history: Sequence[int], rule: History = History()) -> list[int]:
    """ppm, adding up to 1000000 (largest remainder)."""
    with exact():
        return split(MICRO, [Fraction(x) for x in _raw(history, rule)])


def _raw(history: Sequence[int], rule: History) -> list[Decimal]:
    ordered = sorted(history)
    n = len(ordered)
    middle = Decimal(ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    span = Decimal(rule.high_ppm - rule.low_ppm) / MICRO
    low, temperature = Decimal(rule.low_ppm) / MICRO, Decimal(rule.temperature_micro)
    return [low + span / (1 + ((middle - h) / temperature).exp()) for h in history]
