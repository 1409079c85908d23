"""Audited: another incentive, and how well its pay follows what updates are worth on test data.

Paper: none; our derivation (an instrument: sampled Shapley values of all rows that arrived, vetoed
ones too, on the test split; nobody is paid by them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from fedalign.core.market import Incentive, Market, Offer, Outcome, Payments
from incentives import _checks
from incentives._worth import MEASURES, Measure, worth_of
from incentives.metrics import spearman
from incentives.payments.sampled_shapley import sampled_shapley


@dataclass(frozen=True)
class Audited(Incentive):
    """rule: the incentive that pays; it never sees the audit. pairs: >= 1 random orders, each with
    its reverse: at most 2 pairs n evaluations a round. measure: accuracy or loss.

    Notes `spearman`, the rank correlation over clients of all pay so far with all worth so far;
    none where all pay is equal. Sums of pay that rounding to whole units may have set apart (one
    unit a round) count as equal.
    """

    rule: Incentive
    pairs: int = 5
    measure: Measure = "loss"

    def __post_init__(self):
        _checks.whole(self, "pairs", 1)
        _checks.one_of(self, "measure", MEASURES)

    @property
    def needs(self) -> frozenset[str]:
        """What the rule needs, and the test split."""
        return self.rule.needs | {"audit"}

    def announce(self, market: Market) -> Offer:
        """The rule's own offer; the audit's sums travel beside the rule's memory."""
        own = market.memory.get("audit", {})
        offer = self.rule.announce(replace(market, memory=market.memory.get("rule", {})))
        return replace(offer, memory={"rule": offer.memory, "audit": own})

    def settle(self, outcome: Outcome) -> Payments:
        """The rule's own payments, judged."""
        memory = outcome.memory
        own = replace(outcome, audit=None, memory=memory.get("rule", {}))
        payments = self.rule.settle(own)
        paid, worth = self._sums(outcome, payments)
        rounds = outcome.memory.get("audit", {}).get("rounds", 0) + 1
        notes = dict(payments.notes)
        if len(paid) > 1:
            found = spearman(_levels([paid[c] for c in worth], rounds), list(worth.values()))
            notes["spearman"] = None if found.reason else found.value
        audit = {"paid": paid, "worth": worth, "rounds": rounds}
        return replace(payments, memory={"rule": payments.memory, "audit": audit}, notes=notes)

    def _sums(
        self, outcome: Outcome, payments: Payments
    ) -> tuple[dict[int, int], dict[int, float]]:
        """client -> all pay and all worth so far, of clients with at least one row."""
        before = outcome.memory.get("audit", {})
        paid, worth = dict(before.get("paid", {})), dict(before.get("worth", {}))
        clients = outcome.updates.clients.tolist()
        if not clients:
            return paid, worth
        value = worth_of(outcome, range(len(clients)), self.measure, outcome.audit)
        # after the rule, whose own draws so stay what they are without an audit
        values = sampled_shapley(value, len(clients), outcome.rng, self.pairs).values
        earned = dict(zip(payments.accounts, payments.amounts, strict=True))
        for client, value_now in zip(clients, values.tolist(), strict=True):
            worth[client] = worth.get(client, 0.0) + value_now
            paid[client] = paid.get(client, 0) + earned.get(client, 0)
        return paid, worth


def _levels(paid: Sequence[int], apart: int) -> list[int]:
    """(n,) the same number for sums that neighbours at most `apart` link."""
    order = sorted(range(len(paid)), key=lambda i: paid[i])
    levels = [0] * len(paid)
    for before, i in pairwise(order):
        levels[i] = levels[before] + (paid[i] - paid[before] > apart)
    return levels
