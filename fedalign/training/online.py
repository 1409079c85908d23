"""Online steps: sample answers, have them judged, follow the policy gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.preferences import Preferences, Sequences
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.terms import Loss
from fedalign.training.reference import as_it_is, reference_logps
from fedalign.training.rollout import Rollout
from fedalign.training.sequences import logps

Reward = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], np.ndarray]


def descend_online(
    module: nn.Module, prompts: Sequence[Sequence[int]], objective: Rloo, reward: Reward,
    rollout: Rollout, rng: np.random.Generator, chunk: int,
    referred: Callable[[Sequences], Tensor] | None = None,
) -> Loss:  # fmt: skip
    """Add the gradient of P prompts with k answers each to .grad. reward: (prompts, answers) ->
    (P k,). Answers cut off at the longest length count as they are. referred: log-probabilities
    (P k,) under the reference, if that is not the base model."""
    repeated = [prompt for prompt in prompts for _ in range(objective.answers)]
    answers = rollout(module, repeated, rng)
    device = next(module.parameters()).device
    drawn = Sequences.of(repeated, answers)
    drawn = Sequences(*(x.to(device) for x in vars(drawn).values()))
    shape = (len(prompts), objective.answers)
    worth = torch.from_numpy(reward(repeated, answers)).float().to(device).view(shape)
    asked = reference_logps(module, drawn) if referred is None else referred(drawn)
    reference = asked.view(shape)
    loss = objective(logps(module, drawn, chunk).view(shape), reference, worth)
    loss.value.backward()
    return replace(loss, value=loss.value.detach(), items=loss.items.detach())


@torch.no_grad()
def self_play(
    module: nn.Module, pairs: Preferences, truths: Sequence[Sequence[int]], rollout: Rollout,
    rng: np.random.Generator,
) -> tuple[Preferences, Tensor]:  # fmt: skip
    """The same prompts with the data's answers as chosen ones and the module's own as rejected
    ones, and log-probabilities (N, 2) of both under the module as it is now."""
    prompts = pairs.chosen.prompts()
    chosen = Sequences.of(prompts, truths)
    rejected = Sequences.of(prompts, rollout(module, prompts, rng))
    device = pairs.topics.device
    sides = [Sequences(*(x.to(device) for x in vars(s).values())) for s in (chosen, rejected)]
    played = replace(pairs, chosen=sides[0], rejected=sides[1])
    return played, as_it_is(module, played)
