"""Bucketing: shuffle the clients, average them in small groups, then apply a rule.

Paper: Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via
Bucketing", ICLR 2022, Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from defenses._checks import check, check_count
from fedalign.core.contracts import Aggregate, Context, Defense, require
from fedalign.core.vectors import combine
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class Bucketing(Wrapper):
    """`rule` on the means of random groups of `size` clients; the last group may be smaller.

    rule: any rule; it sees ceil(n / size) rows, f of which may be spoilt, so that it must stand f
    among so few (f size < n / 2). size: s >= 1. byzantine_count: f >= 0; None takes the
    context's. The permutation is drawn from `context.rng`. Coefficients, acceptance and scores
    are handed back per client: those of its group, coefficients divided by the group's size.
    Memory of the rule lives under "rule".
    """

    rule: Defense
    size: int = 2
    byzantine_count: int | None = None

    def __post_init__(self) -> None:
        check(self.size >= 1, "Bucketing", "size", "1 or more", self.size)
        check_count("Bucketing", self.byzantine_count)

    def minimum(self, byzantine_count: int) -> int:
        buckets = max(2 * byzantine_count + 1, self.rule.minimum(byzantine_count))
        return (buckets - 1) * self.size + 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        n, f = len(updates), self._byzantine(context)
        require(self, n, f or 0)
        bucket = self._draw(n, context).to(updates.device)  # (n,): each client's group
        count = int(bucket.max()) + 1
        member = bucket == torch.arange(count, device=updates.device)[:, None]
        mixture = member.to(torch.float64) / member.sum(dim=1, keepdim=True)
        inside = replace(context.inner("rule").mixed(mixture), byzantine_count=f)
        result = self.rule(combine(mixture, updates), inside)
        coefficients = result.coefficients
        return replace(
            result,
            memory={"rule": result.memory} if result.memory else {},
            accepted=result.accepted[bucket],
            scores=None if result.scores is None else result.scores[bucket],
            coefficients=None if coefficients is None else mixture.T @ coefficients.to(mixture),
        )

    def _byzantine(self, context: Context) -> int | None:
        own = self.byzantine_count
        return context.byzantine_count if own is None else own

    def _draw(self, n: int, context: Context) -> Tensor:
        order = torch.from_numpy(context.rng.permutation(n))
        return torch.empty(n, dtype=torch.long).scatter_(0, order, torch.arange(n) // self.size)
