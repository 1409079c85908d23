"""PPO's local steps: answers by the policy as it is, values by a critic with an adapter of its own.

Papers: Schulman et al., "Proximal Policy Optimization Algorithms", 2017, Algorithm 1; Ouyang et
al., "Training language models to follow instructions with human feedback", NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedalign.core.preferences import Sequences
from fedalign.objectives.ppo import Ppo
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.lesson import Lesson, Step
from fedalign.training.sequences import inside, token_logps


@dataclass(frozen=True)
class Played:
    """N answers and what was known when they were drawn; all (N, T - 1), entry t of token t + 1."""

    rows: Sequences
    mask: Tensor  # of the completion
    ended: Tensor  # the same, 0 where an answer has no end mark
    old: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    metrics: dict[str, float]


def proximal(lesson: Lesson) -> Step:
    """`passes` steps on one set of answers; the prompts are those of the first of them."""
    objective: Ppo = lesson.objective
    middle, spread = _scale(lesson) if objective.standardise else (0, 1)
    played: list[Played] = []

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        if number % objective.passes == 0:
            played[:] = [_play(lesson, rows, number, middle, spread)]
        return _descend(lesson, played[0])

    return step


def _scale(lesson: Lesson) -> tuple[float, float]:
    """Mean and deviation of what the held answers are worth to whoever is climbed."""
    pairs = lesson.pairs
    scores = pairs.scores.double()
    if lesson.objective.grouped:
        held = Sequences.concatenate([pairs.chosen, pairs.rejected])
        scores = torch.from_numpy(lesson.reward(held.prompts(), held.completions()))
    return float(scores.mean()), max(float(scores.std()), 1e-6)


@torch.no_grad()
def _play(lesson: Lesson, rows: Tensor, number: int, middle: float, spread: float) -> Played:
    objective: Ppo = lesson.objective
    prompts = [p for p in lesson.prompts(rows) for _ in range(objective.answers)]
    answers = lesson.rollout(lesson.module, prompts, lesson.rng("rollout", number))
    worth = lesson.reward(prompts, answers)
    drawn = lesson.there(prompts, answers)
    width = int(drawn.ends.max())
    mask = inside(drawn, width).float()
    old = _chunked(lesson, drawn, width, lambda tokens: token_logps(lesson.module, tokens))
    with lesson.module.disable_adapter():
        reference = _chunked(
            lesson, drawn, width, lambda tokens: token_logps(lesson.module, tokens)
        )
    values = _chunked(lesson, drawn, width, lambda tokens: _values(lesson, tokens))
    scaled = torch.from_numpy((worth - middle) / spread).to(old)
    rewards = objective.token_rewards((old - reference) * mask, scaled, mask)
    advantages, returns = objective.advantages(rewards, values, mask)
    whole = torch.tensor([float(a[-1] == lesson.rollout.end) for a in answers]).to(mask)
    kl = float(((old - reference) * mask).sum(dim=1).mean())
    return Played(
        drawn, mask, mask * whole[:, None], old, values, advantages, returns,
        {"reward": float(worth.mean()), "kl_samples": kl},
    )  # fmt: skip


def _descend(lesson: Lesson, played: Played) -> Loss:
    """Add the gradient of actor and critic to .grad; their weights are different ones."""
    objective: Ppo = lesson.objective
    spoken, valued = played.ended.sum().clamp(min=1), played.mask.sum()
    actor, critic, outside = 0.0, 0.0, 0.0
    for part in played.rows.ends.argsort(stable=True).split(lesson.tuning.chunk):
        some = played.rows.take(part)
        width = int(some.ends.max())

        def cut(values: Tensor, part: Tensor = part, width: int = width) -> Tensor:
            return values[part, : width - 1]

        tokens = some.tokens[:, :width]
        ended, mask = cut(played.ended), cut(played.mask)
        acted = objective.actor(
            token_logps(lesson.module, tokens), cut(played.old), cut(played.advantages), ended
        )
        judged = objective.critic(
            _values(lesson, tokens), cut(played.values), cut(played.returns), mask
        )
        of_actor, of_critic = ended.sum() / spoken, mask.sum() / valued
        (acted.value * of_actor + objective.critic_weight * judged.value * of_critic).backward()
        actor += float(acted.value.detach() * of_actor)
        critic += float(judged.value.detach() * of_critic)
        outside += acted.metrics["clip_fraction"] * float(of_actor)
    metrics = {**played.metrics, "critic_loss": critic, "clip_fraction": outside}
    value = torch.tensor(actor + objective.critic_weight * critic)
    return Loss(value, torch.zeros(0), metrics)


def _values(lesson: Lesson, tokens: Tensor) -> Tensor:
    """(B, T) -> (B, T - 1), what the critic expects before each token is said."""
    return lesson.module.scorer.along(tokens)[:, :-1, 0]


def _chunked(lesson: Lesson, rows: Sequences, width: int, ask) -> Tensor:
    """(N, width - 1), rows of similar length together; 0 behind the longest of its chunk."""
    found = torch.zeros(len(rows), width - 1, device=rows.ends.device)
    for part in rows.ends.argsort(stable=True).split(lesson.tuning.chunk):
        some = rows.take(part)
        longest = int(some.ends.max())
        found[part, : longest - 1] = ask(some.tokens[:, :longest])
    return found
