"""Stragglers: which members miss a round, and whether they ever come back.

Paper: Wang et al., arXiv 2308.01296 (temporary and permanent stragglers at both levels); Gilbert,
"Capacity of a Burst-Noise Channel", 1960 (outages in bursts: a chain of two states).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds

Kind = Literal["none", "temporary", "permanent", "bursty"]
Level = Literal["device", "edge", "both"]


@dataclass(frozen=True)
class Stragglers:
    """Outages, the same for every rule: drawn from the seed by level, group, member and round.

    kind: "temporary", another `share` of the members every round; "permanent", the same ones for
    ever; "bursty", each member is away a `share` of the time, in outages of `burst` rounds on
    average; "none". level: "device" (of every edge), "edge" (edge servers) or "both".
    share: 0 .. 1, of a group; where it makes no whole number, the rest is drawn.
    cold_boot_rounds: global rounds, 0 or more, before the first outage. burst: >= 1.
    late: whether rows of temporary and bursty outages arrive one round later, else they are lost.
    """

    kind: Kind = "none"
    level: Level = "device"
    share: float = 0.2
    cold_boot_rounds: int = 2
    burst: float = 3.0
    late: bool = False

    def __post_init__(self) -> None:
        for name, options in (("kind", Kind), ("level", Level)):
            if getattr(self, name) not in get_args(options):
                raise ConfigError(
                    f"stragglers.{name} is one of {', '.join(get_args(options))}; "
                    f"got {getattr(self, name)!r}."
                )
        if not 0 <= self.share <= 1:
            raise ConfigError(f"stragglers.share must lie in [0, 1], got {self.share}.")
        if self.burst < 1 or self.cold_boot_rounds < 0:
            raise ConfigError(
                f"stragglers need burst >= 1 and cold_boot_rounds >= 0, got {self.burst} and "
                f"{self.cold_boot_rounds}."
            )
        if self.kind == "bursty" and self.share < 1 and self._begins > 1:
            raise ConfigError(
                f"Outages of {self.burst:g} rounds cannot fill {self.share:g} of the time with at "
                f"least a round between them: raise stragglers.burst above "
                f"{self.share / (1 - self.share):g}."
            )

    @property
    def returns(self) -> bool:
        """Whether a member that is away comes back."""
        return self.kind in ("temporary", "bursty")

    def away(
        self,
        level: Literal["device", "edge"],
        group: int,
        members: Sequence[int],
        round: int,
        start: int,
        seeds: Seeds,
    ) -> set[int]:
        """Members of one group that miss `round` (counted at their level), whose first round
        after the cold boot is `start`."""
        if self.kind == "none" or self.level not in (level, "both") or round < start:
            return set()
        if self.kind == "bursty":
            return {u for u in members if self._out(level, u, round - start + 1, seeds)}
        when = {"round": round} if self.kind == "temporary" else {}
        rng = seeds.at("stragglers", level=level, group=group, **when)
        exact = self.share * len(members)
        count = int(exact) + int(rng.random() < exact - int(exact))
        return set(rng.choice(list(members), count, replace=False).tolist())

    @property
    def _begins(self) -> float:
        return self.share / (self.burst * (1 - self.share))

    def _out(self, level: str, member: int, rounds: int, seeds: Seeds) -> bool:
        """The state of a member's chain after so many rounds, begun in its long-run shares."""
        if self.share in (0, 1):
            return self.share == 1
        coins = seeds.at("outages", level=level, member=member).random(rounds)
        out = bool(coins[0] < self.share)
        for coin in coins[1:]:
            out = bool(coin >= 1 / self.burst) if out else bool(coin < self._begins)
        return out
