"""Rewards: divide a round's base units among the servers, to the last unit.

Paper: none; our derivation (share of samples, of likeness, a bonus for the leader and the voters).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from consensus.pofel.shares import split
from fedalign.core.errors import ConfigError

PPM = 1_000_000


@dataclass(frozen=True)
class RewardRule:
    """units: base units minted per block, >= 0. leader_ppm, voters_ppm: bonuses, together <= 1.
    theta_ppm: how much of the rest goes by sample counts; what remains goes by likeness."""

    units: int = 1_000_000
    theta_ppm: int = 500_000
    leader_ppm: int = 50_000
    voters_ppm: int = 50_000

    def __post_init__(self) -> None:
        bonus = self.leader_ppm + self.voters_ppm
        if self.units < 0 or min(self.leader_ppm, self.voters_ppm) < 0 or bonus > PPM:
            raise ConfigError(
                "Rewards need units >= 0 and leader_ppm + voters_ppm between 0 and 1000000, got "
                f"{self.units}, {self.leader_ppm} and {self.voters_ppm}."
            )
        if not 0 <= self.theta_ppm <= PPM:
            raise ConfigError(f"theta_ppm is 0 .. 1000000 (default 500000), got {self.theta_ppm}.")


def distribute(
    rule: RewardRule,
    sizes: Mapping[bytes, int],
    likeness_ppb: Mapping[bytes, int],
    leader: bytes,
    scores_micro: Mapping[bytes, int],
    denied: Collection[bytes] = (),
) -> tuple[dict[bytes, int], int]:
    """(base units by server, treasury): their sum is exactly `rule.units`.

    sizes: sample counts of the servers in the round. likeness_ppb: their cosines, negative ones
    count 0. scores_micro: of the counted votes, negative ones count 0. denied: servers that earn
    nothing by their model. A part whose shares are all 0 goes to the treasury.
    """
    rest = PPM - rule.leader_ppm - rule.voters_ppm
    by_samples = rest * rule.theta_ppm
    parts = (by_samples, rest * PPM - by_samples, rule.leader_ppm * PPM, rule.voters_ppm * PPM)
    by_size, by_likeness, bonus, voters = split(rule.units, parts)
    pay: dict[bytes, int] = {}
    honest = [node for node in sizes if node not in denied]
    _add(pay, by_size, {node: sizes[node] for node in honest})
    _add(pay, by_likeness, {node: max(0, likeness_ppb.get(node, 0)) for node in honest})
    _add(pay, bonus, {leader: 1})
    _add(pay, voters, {node: max(0, score) for node, score in scores_micro.items()})
    return pay, rule.units - sum(pay.values())


def _add(pay: dict[bytes, int], units: int, shares: Mapping[bytes, int]) -> None:
    nodes = list(shares)
    for node, amount in zip(nodes, split(units, [shares[n] for n in nodes]), strict=True):
        if amount:
            pay[node] = pay.get(node, 0) + amount
