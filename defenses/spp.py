"""SPP: repeat a rule's test on secret coordinates drawn after everybody has submitted.

Paper: Wang, Hu & Zou, "Can We Trust the Similarity Measurement in Federated Learning?",
arXiv 2311.03369, 2023, Section 7 (similarity of partial parameters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.moments import moments
from fedalign.core.on_rows import on_rows
from fedalign.core.subsets import subset_of_blocks, subset_of_each
from fedalign.core.wrapping import Wrapper

Mode = Literal["uniform", "stratified", "blocks", "layerwise"]


@dataclass(frozen=True)
class SPP(Wrapper):
    """Wraps a rule that judges whole clients; the coordinates K come from `context.rng`.

    What happens on K follows from `rule.test`. threshold: a client must pass the full test and
    the one on every K; norm rules test on K that the length is within `band` of the median
    client's. selection: the rows most often selected on the K, in full. weighted: accepted on
    every K, then weighed by the rule on the full rows. Nobody accepted: the round is skipped.

    mode: "uniform" (the paper), "stratified" (`rho` of every tensor), "blocks" (contiguous blocks
    of `block` coordinates), "layerwise" (`rho` of every tensor, each tested for itself; a client
    fails with more than `failing_share` of the tensors: ours). stratified and layerwise need
    `context.layout`. rho: share of the coordinates, 0 < rho <= 1. q: how many K, >= 1.
    exact: ceil(rho d) coordinates rather than a coin for each. band: (low, high) ratios,
    0 <= low <= 1 <= high. failing_share: 0 <= share < 1. block: >= 1.
    """

    rule: Defense
    mode: Mode = "uniform"
    rho: float = 0.5
    q: int = 1
    exact: bool = True
    band: Sequence[float] = (0.8, 1.25)
    failing_share: float = 0.2
    block: int = 4096

    def __post_init__(self) -> None:
        if self.rule.test not in ("threshold", "selection", "weighted"):
            raise ConfigError(
                f"SPP repeats a rule's test of whole clients on some coordinates, but "
                f"{type(self.rule).__name__} has none (its result is no combination of accepted "
                "rows, or its test looks at other rounds or at evaluations): wrap a rule that has "
                "one, such as norm_filter, krum, multi_krum, dnc or fltrust."
            )
        if self.mode not in get_args(Mode):
            raise ConfigError(
                f"SPP's mode is one of {', '.join(get_args(Mode))}; got '{self.mode}'."
            )
        if not 0 < self.rho <= 1:
            raise ConfigError(
                f"SPP's rho is a share with 0 < rho <= 1 (the paper: 0.5), got {self.rho}."
            )
        if self.q < 1 or self.block < 1:
            raise ConfigError(f"SPP needs q >= 1 and block >= 1, got {self.q} and {self.block}.")
        if len(self.band) != 2 or not 0 <= self.band[0] <= 1 <= self.band[1]:
            raise ConfigError(
                "SPP's band is (low, high) with 0 <= low <= 1 <= high, so that the median client "
                f"passes (default 0.8, 1.25); got {tuple(self.band)}."
            )
        if not 0 <= self.failing_share < 1:
            raise ConfigError(f"SPP's failing_share is in [0, 1), got {self.failing_share}.")
        object.__setattr__(self, "band", tuple(map(float, self.band)))

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        draws = [self._draw(updates.shape[1], context) for _ in range(self.q)]
        if self.rule.test == "selection":
            result = self._select(updates, context, draws)
        else:
            passed = torch.ones(len(updates), dtype=torch.bool, device=updates.device)
            for pieces in draws:
                passed &= self._passes(updates, context, pieces)
            if self.rule.test == "weighted":
                result = on_rows(self.rule, updates, passed, context)
            else:
                result = self._filter(updates, context, passed)
        drawn = [sum(len(piece) for piece in pieces) for pieces in draws]
        return replace(result, notes={**result.notes, "spp_columns": drawn})

    def _draw(self, columns: int, context: Context) -> list[Tensor]:
        """The pieces to be tested one by one: one set of coordinates, layerwise one per tensor."""
        if self.mode == "blocks":
            return [subset_of_blocks(columns, self.block, self.rho, context.rng)]
        spans = [slice(0, columns)]
        if self.mode in ("stratified", "layerwise"):
            if context.layout is None:
                raise ConfigError(
                    f"SPP in mode '{self.mode}' draws within every tensor, got a context without a "
                    "layout: pass Context(layout=...) or use mode 'uniform'."
                )
            spans = [part.span for part in context.layout.parts if part.size]
        pieces = subset_of_each(spans, self.rho, context.rng, self.exact)
        return [torch.cat(pieces)] if self.mode == "stratified" else pieces

    def _passes(self, updates: Tensor, context: Context, pieces: list[Tensor]) -> Tensor:
        """(n,) bool: the test on K, of all pieces but `failing_share`."""
        failed = sum(1 - self._test_on(updates, context, piece).long() for piece in pieces)
        return failed <= self.failing_share * len(pieces) + 1e-9

    def _test_on(self, updates: Tensor, context: Context, piece: Tensor) -> Tensor:
        piece = piece.to(updates.device)
        rows = updates.index_select(1, piece)
        if self.rule.test == "threshold" and self.rule.family == "norm":
            model = context.model if self.rule.space == "model" else None
            lengths = moments(rows, shift=None if model is None else model[piece])[0].sqrt()
            middle = lengths.quantile(0.5)
            return (lengths >= self.band[0] * middle) & (lengths <= self.band[1] * middle)
        return self.rule(rows, context.inner("rule").columns(piece)).accepted

    def _filter(self, updates: Tensor, context: Context, passed: Tensor) -> Aggregate:
        """The rule's own coefficients without those who failed on K, with the same sum."""
        full = self.rule(updates, context.inner("rule"))
        memory = {"rule": full.memory}
        accepted = full.accepted & passed
        if full.skipped or not bool(accepted.any()):
            return Aggregate.skip(updates, scores=full.scores, memory=memory)
        coefficients = _rescaled(full.coefficients, accepted, full.coefficients.sum())
        return Aggregate.combine(
            updates,
            coefficients,
            accepted=accepted,
            scores=full.scores,
            memory=memory,
            notes=full.notes,
        )

    def _select(self, updates: Tensor, context: Context, draws: list[list[Tensor]]) -> Aggregate:
        """As many rows as one K selects: those with the most votes, ties to the lowest index."""
        inner = context.inner("rule")
        ballots = [
            self.rule(updates.index_select(1, piece.to(updates.device)), inner.columns(piece))
            for pieces in draws
            for piece in pieces
        ]
        votes = torch.stack([ballot.accepted for ballot in ballots]).sum(dim=0)
        seats = min(int(ballot.accepted.sum()) for ballot in ballots)
        accepted = torch.zeros_like(ballots[0].accepted)
        accepted[votes.argsort(descending=True, stable=True)[:seats]] = True
        if seats == 0:
            return Aggregate.skip(updates, memory=dict(context.memory))
        given = torch.stack([ballot.coefficients for ballot in ballots]).sum(dim=0)
        average = given / votes.clamp(min=1)  # over the ballots that selected the row
        total = given.sum() / len(ballots)
        memory = {"rule": ballots[-1].memory}
        return Aggregate.combine(
            updates,
            _rescaled(average, accepted, total),
            accepted=accepted,
            scores=votes.double(),
            memory=memory,
        )


def _rescaled(coefficients: Tensor, keep: Tensor, total: Tensor) -> Tensor:
    """The kept coefficients, stretched so that their sum is `total`."""
    kept = torch.where(keep, coefficients, 0.0)
    return kept * (total / kept.sum())
