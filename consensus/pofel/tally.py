"""Tally: add up weighted votes and rank the candidates; the first writes the block.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (weighted votes elect the leader); tie-break
by the beacon and fairness among leaders are our derivation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from consensus.pofel.beacon import ticket
from fedalign.core.errors import ConfigError

Kind = Literal["none", "cooldown", "share"]


@dataclass(frozen=True)
class Fairness:
    """Whether leaders rotate. kind: "none"; "cooldown": the last `cooldown` leaders go behind the
    others; "share": V_j / (1 + rho wins_j / rounds).

    cooldown: >= 1 leaders, at most n - 2f - 1. rho_ppm: >= 0.
    """

    kind: Kind = "none"
    cooldown: int = 1
    rho_ppm: int = 1_000_000

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"Fairness is none, cooldown or share; got '{self.kind}'.")
        if self.cooldown < 1 or self.rho_ppm < 0:
            raise ConfigError(
                f"Fairness needs cooldown >= 1 and rho_ppm >= 0, got {self.cooldown} and "
                f"{self.rho_ppm}."
            )


@dataclass(frozen=True)
class Ranking:
    """order: candidates, leader first. totals: raw weight V_j in ppm, by candidate.
    winner: most raw weight, before fairness (what anchored scores compare with)."""

    order: tuple[bytes, ...]
    totals: tuple[tuple[bytes, int], ...]
    winner: bytes | None

    @property
    def leader(self) -> bytes:
        return self.order[0]


def tally(
    votes: Sequence[bytes],
    weights_ppm: Sequence[int],
    beacon: bytes,
    candidates: Sequence[bytes],
    fairness: Fairness = Fairness(),
    *,
    wins: Mapping[bytes, int] | None = None,
    rounds: int = 0,
    recent: Sequence[bytes] = (),
    last: Collection[bytes] = (),
) -> Ranking:
    """Rank `candidates` by the weight of the votes for them; ties by SHA256(beacon ‖ id).

    wins: leaderships so far. rounds: blocks so far. recent: past leaders, the latest last. last:
    candidates that go behind all others (copies, no work). No votes: the beacon alone decides.
    """
    totals = dict.fromkeys(candidates, 0)
    for choice, weight in zip(votes, weights_ppm, strict=True):
        totals[choice] += weight
    tie = {node: ticket(beacon, node) for node in candidates}
    cooled = _cooled(candidates, fairness, recent)

    def place(node: bytes) -> tuple:
        value = Fraction(totals[node])
        if fairness.kind == "share" and rounds:
            won = (wins or {}).get(node, 0)
            value /= 1 + Fraction(fairness.rho_ppm * won, 1_000_000 * rounds)
        return node in last, node in cooled, -value, tie[node]

    winner = min(candidates, key=lambda node: (-totals[node], tie[node]), default=None)
    return Ranking(tuple(sorted(candidates, key=place)), tuple(totals.items()), winner)


def _cooled(candidates: Sequence[bytes], fairness: Fairness, recent: Sequence[bytes]) -> set[bytes]:
    if fairness.kind != "cooldown":
        return set()
    cooled = set(recent[-fairness.cooldown :]) & set(candidates)
    return set() if len(cooled) == len(candidates) else cooled
