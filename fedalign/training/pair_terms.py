"""From pairs of answers to the terms of a preference objective, and its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedalign.core.preferences import Preferences, Sequences
from fedalign.objectives.terms import Loss, Memory, PairObjective, PairTerms
from fedalign.training.reference import reference_logps
from fedalign.training.sequences import Packing, logps


@dataclass(frozen=True)
class Batch:
    """B pairs of one optimizer step. reference: (B, 2), log-probabilities of the chosen and the
    rejected answers under the reference."""

    pairs: Preferences
    reference: Tensor


def descend(
    module: nn.Module, batch: Batch, objective: PairObjective, memory: Memory,
    passes: int | Packing, micro_batch: int | None = None,
) -> Loss:  # fmt: skip
    """Add the gradient of the objective to the parameters' .grad and return the loss.

    With a micro batch, log-probabilities are first computed without a graph, then again in parts
    that descend their own share: the same gradient for every objective, in less memory.
    """
    both = compared(batch, objective)
    fixed = mismatched_ratios(module, batch.pairs, passes) if objective.mismatched else None
    if micro_batch is None:
        policy = logps(module, both, passes)
        loss = objective(terms(batch, policy, fixed), memory)
        loss.value.backward()
        return _detached(loss)
    with torch.no_grad():
        policy = logps(module, both, passes)
    policy.requires_grad_()
    loss = objective(terms(batch, policy, fixed), memory)
    share = torch.autograd.grad(loss.value, policy)[0]
    for rows in both.ends.argsort(stable=True).split(2 * micro_batch):
        (logps(module, both.take(rows), passes) * share[rows]).sum().backward()
    return _detached(loss)


def compared(batch: Batch, objective: PairObjective) -> Sequences:
    """What must go through the model: chosen, then rejected answers; an objective that compares
    with nothing needs the chosen ones alone."""
    if objective.reference == "none":
        return batch.pairs.chosen
    return Sequences.concatenate([batch.pairs.chosen, batch.pairs.rejected])


def terms(batch: Batch, policy: Tensor, mismatched: Tensor | None = None) -> PairTerms:
    """policy: (2 B,), log-probabilities of all chosen, then all rejected answers; or (B,), of the
    chosen ones, where nobody looks at the others, which are then taken to be the reference's."""
    pairs, count = batch.pairs, len(batch.pairs)
    if len(policy) == count:
        policy = torch.cat([policy, batch.reference[:, 1]])
    return PairTerms(
        chosen=policy[:count],
        rejected=policy[count:],
        chosen_reference=batch.reference[:, 0],
        rejected_reference=batch.reference[:, 1],
        chosen_tokens=pairs.chosen.lengths,
        rejected_tokens=pairs.rejected.lengths,
        chosen_scores=pairs.scores[:, 0],
        rejected_scores=pairs.scores[:, 1],
        mismatched=mismatched,
    )


@torch.no_grad()
def mismatched_ratios(module: nn.Module, pairs: Preferences, passes: int | Packing) -> Tensor:
    """(2 B,) log-ratios of every answer after the prompt of the next row."""
    prompts = pairs.chosen.prompts()
    prompts = prompts[1:] + prompts[:1]
    answers = pairs.chosen.completions() + pairs.rejected.completions()
    crossed = Sequences.of(prompts * 2, answers)
    crossed = Sequences(*(x.to(pairs.topics.device) for x in vars(crossed).values()))
    return logps(module, crossed, passes) - reference_logps(module, crossed, passes)


def _detached(loss: Loss) -> Loss:
    return replace(loss, value=loss.value.detach(), items=loss.items.detach())


def averaged(metrics: list[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over steps."""
    names = metrics[0] if metrics else {}
    return {name: sum(m[name] for m in metrics) / len(metrics) for name in names}
