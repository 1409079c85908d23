"""What an incentive is told and what it answers: prices before training, payments after.

Payments are plain data in whole base units; whether they settle on a chain or in the log only is
not their concern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from fedalign.core.contracts import Aggregate, Evaluate, Memory, Updates, Work
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds


@dataclass(frozen=True)
class Market:
    """What is known before training. clients: (n,) ids of the round. samples: (n,). work: what a
    client does unpaid. seeds: client types are drawn at addresses without a round, so that a
    client keeps its type. memory: what `settle` returned last round."""

    round: int
    clients: Tensor
    samples: Tensor
    work: Work
    seeds: Seeds
    memory: Memory = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """Prices and every client's best response. effort, seconds, utility: (n,) float64; seconds
    are simulated. work: one per client, None where the client does not take part: it gets no
    task. promised: (n,) base units for an accepted row, None where the pay depends on the outcome.
    certificate: plain data, why this is an equilibrium."""

    work: Sequence[Work | None]
    prices: Mapping[str, float] = field(default_factory=dict)
    effort: Tensor | None = None
    seconds: Tensor | None = None
    utility: Tensor | None = None
    promised: Tensor | None = None
    certificate: Mapping[str, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)

    def cut(self, keep: Sequence[int]) -> Offer:
        """The offer of some clients, by position."""
        cut = {
            name: None if (value := getattr(self, name)) is None else value[list(keep)]
            for name in ("effort", "seconds", "utility", "promised")
        }
        return replace(self, work=[self.work[i] for i in keep], **cut)


@dataclass(frozen=True)
class Outcome:
    """What a payment may depend on. offer: cut to the clients whose rows arrived. updates,
    aggregate: as the rule saw and decided. model: (d,), before the round. evaluate: a model (d,)
    -> {"loss", "accuracy"} on the server's split, only for incentives that need it. audit: the
    same on the test split, only for instruments that pay nobody by it."""

    round: int
    offer: Offer
    updates: Updates
    aggregate: Aggregate
    model: Tensor
    evaluate: Evaluate | None = None
    audit: Evaluate | None = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    memory: Memory = field(default_factory=dict)


@dataclass(frozen=True)
class Payments:
    """Who gets what. accounts: client ids. amounts: integer base units >= 0 of the same length.
    total: their exact sum. contributions: the raw scores behind them, may be negative."""

    accounts: Sequence[int] = ()
    amounts: Sequence[int] = ()
    total: int = 0
    contributions: Sequence[float] = ()
    memory: Memory = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.accounts) != len(self.amounts) or sum(self.amounts) != self.total:
            raise ConfigError(
                f"Payments must name one amount per account and sum exactly: {len(self.accounts)} "
                f"accounts, {len(self.amounts)} amounts with sum {sum(self.amounts)}, "
                f"total {self.total}."
            )
        if any(not isinstance(a, int) or a < 0 for a in self.amounts):
            raise ConfigError("Payments are whole base units of 0 or more.")


class Incentive(Protocol):
    """Announces prices before training, pays after aggregation. Frozen; memory goes round.

    needs: "evaluate" where payments measure contributions on the server's split; "audit" where
    an instrument judges payments on the test split.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def announce(self, market: Market) -> Offer: ...

    def settle(self, outcome: Outcome) -> Payments: ...
