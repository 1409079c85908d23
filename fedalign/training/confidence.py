"""CONQORD's local steps: learn to state a confidence where need be, then be paid for its order.

Paper: Tao et al., "When to Trust LLMs: Aligning Confidence with Response Quality", Findings of ACL
2024, Section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fedalign.data.graded_facts import EOS, World
from fedalign.data.grader import grade
from fedalign.objectives.conqord import Conqord
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.lesson import Lesson, Step, imitate
from fedalign.training.online import descend_online
from fedalign.training.sequences import logps


def confidence(lesson: Lesson) -> Step:
    """The form in the first rounds, if any, then policy gradients."""
    if lesson.round <= lesson.objective.format_rounds:
        return partial(_form, lesson)
    return _online(lesson)


def stated(world: World, answer: Sequence[int], digit: int) -> list[int]:
    """The answer with `conf digit .` before its end mark."""
    ended = list(answer[-1:]) == [EOS]
    body = list(answer[:-1] if ended else answer)
    return [*body, *world.encode(f"conf {digit} ."), *([EOS] if ended else [])]


def _form(lesson: Lesson, number: int, rows: Tensor, memory: Memory) -> Loss:
    pairs, rng = lesson.pairs.take(rows), lesson.rng("digits", number)
    answers = pairs.chosen.completions() + pairs.rejected.completions()
    said = [stated(lesson.data.world, a, int(rng.integers(10))) for a in answers]
    return imitate(lesson, lesson.there(pairs.chosen.prompts() * 2, said))


def _online(lesson: Lesson) -> Step:
    objective: Conqord = lesson.objective
    world, scores = lesson.data.world, lesson.pairs.scores.double()
    middle, spread = float(scores.mean()), max(float(scores.std()), 1e-6)
    gradient = Rloo(objective.kl_weight, answers=objective.answers)

    def worth(prompts: Sequence, answers: Sequence) -> np.ndarray:
        quality = torch.from_numpy((lesson.reward(prompts, answers) - middle) / spread)
        claims = [grade(world, p, a).confidence for p, a in zip(prompts, answers, strict=True)]
        claimed = torch.tensor([float("nan") if c is None else c for c in claims]).double()
        total = objective(quality, claimed)
        return total.clamp(-objective.limit, objective.limit).numpy()

    def began(rows) -> Tensor:
        with torch.no_grad(), lesson.standing(lesson.start) as module:
            return logps(module, rows)

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        loss = descend_online(
            lesson.module, lesson.prompts(rows), gradient, worth, lesson.rollout,
            lesson.rng("rollout", number), lesson.tuning.chunk, began if objective.format_rounds else None,
        )  # fmt: skip
        return replace(loss, metrics={"reward_ordered": loss.metrics["reward"]})

    return step
