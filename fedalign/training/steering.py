"""SteerLM's local steps: learn to rate, annotate, answer as annotated, then answer for the best.

Papers: Dong et al., "SteerLM", Findings of EMNLP 2023, Section 3; Wang et al., "HelpSteer2", NeurIPS
2024, Section 4.3 (weighted samples).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedalign.core.preferences import Sequences
from fedalign.data.conditioning import conditioned, labels
from fedalign.data.graded_facts import ATTRIBUTES
from fedalign.data.grader import reward
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.steerlm2 import SteerLm2
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.lesson import Lesson, Step, imitate
from fedalign.training.reference import reference_logps
from fedalign.training.sequences import logps

Condition = Mapping[str, int]


def steering(lesson: Lesson) -> Step:
    """The step of the stage that the lesson's round belongs to."""
    stage = lesson.objective.stage(lesson.round, lesson.rounds)
    if stage == "rate":
        return _rate(lesson)
    if stage == "condition":
        return _condition(lesson)
    best = _best(lesson)
    return _weigh(lesson, best) if stage == "weigh" else _bootstrap(lesson, best)


def _rate(lesson: Lesson) -> Step:
    ratings, regression = lesson.ratings(), RewardRegression()

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        both, total = _both(lesson, rows), 2 * len(rows)
        goals = ratings[:, rows].flatten(0, 1)
        value, error = 0.0, 0.0
        for part in both.ends.argsort(stable=True).split(lesson.tuning.chunk):
            loss = regression(_scores(lesson, both.take(part)), goals[part])
            (loss.value * len(part) / total).backward()
            value += float(loss.value.detach()) * len(part) / total
            error += loss.metrics["rm_attr_mae"] * len(part) / total
        return Loss(torch.tensor(value), torch.zeros(0), {"rm_attr_mae": error})

    return step


def _condition(lesson: Lesson) -> Step:
    annotated = _annotated(lesson)

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        both = _both(lesson, rows)
        wanted = labels(annotated(rows), lesson.objective.dropout, lesson.rng("kept", number))
        return imitate(lesson, _asked(lesson, both.prompts(), both.completions(), wanted))

    return step


def _bootstrap(lesson: Lesson, best: Callable[[int, int], list[Condition]]) -> Step:
    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        prompts = lesson.prompts(rows)
        answers = lesson.drawn(
            _labelled(lesson, prompts, best(len(prompts), number)), "own", number
        )
        said = _rated(lesson, lesson.there(prompts, answers))
        wanted = labels(said, lesson.objective.dropout, lesson.rng("kept", number))
        loss = imitate(lesson, _asked(lesson, prompts, answers, wanted))
        return replace(loss, metrics={"reward_predicted": float(reward(said).mean())})

    return step


def _weigh(lesson: Lesson, best: Callable[[int, int], list[Condition]]) -> Step:
    objective: SteerLm2 = lesson.objective

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        n = objective.answers
        prompts = [p for p in lesson.prompts(rows) for _ in range(n)]
        wanted = [a for a in best(len(rows), number) for _ in range(n)]
        asked = _labelled(lesson, prompts, wanted)
        answers = lesson.drawn(asked, "own", number)
        plain, drawn = lesson.there(prompts, answers), lesson.there(asked, answers)
        chances = _chances(objective, _rated(lesson, plain), wanted).to(drawn.starts.device)
        with torch.no_grad():
            prior = reference_logps(lesson.module, plain, lesson.tuning.chunk)
            with lesson.standing(lesson.start) as module:
                sampled = logps(module, drawn, lesson.tuning.chunk)
            policy = logps(lesson.module, drawn, lesson.tuning.chunk)
        policy.requires_grad_()
        shape = (len(rows), n)
        loss = objective(*(x.view(shape) for x in (chances, prior, sampled, policy, drawn.lengths)))
        share = torch.autograd.grad(loss.value, policy)[0]
        for part in drawn.ends.argsort(stable=True).split(lesson.tuning.chunk):
            some = logps(lesson.module, drawn.take(part), lesson.tuning.chunk)
            (some * share[part]).sum().backward()
        return replace(loss, value=loss.value.detach(), items=loss.items.detach())

    return step


def _chances(objective: SteerLm2, ratings: np.ndarray, wanted: Sequence[Condition]) -> Tensor:
    """(N,), log P(condition | question, answer), attributes independent."""
    found = torch.zeros(len(wanted))
    for i, (row, condition) in enumerate(zip(ratings, wanted, strict=True)):
        for name, score in condition.items():
            mass = objective.attribute_masses(float(row[ATTRIBUTES.index(name)]))[score]
            found[i] += float(mass.clamp(min=1e-12).log())
    return found


def _best(lesson: Lesson) -> Callable[[int, int], list[Condition]]:
    """Draws conditions (count, step) from the best share of what the client's answers got."""
    said = _annotated(lesson)(torch.arange(len(lesson.pairs)))
    order = np.argsort(-reward(said), kind="stable")
    kept = said[order[: max(1, round(lesson.objective.quality * len(order)))]]

    def draw(count: int, number: int) -> list[Condition]:
        rng = lesson.rng("condition", number)
        return labels(kept[rng.integers(0, len(kept), count)], lesson.objective.dropout, rng)

    return draw


def _annotated(lesson: Lesson) -> Callable[[Tensor], np.ndarray]:
    """rows -> (2 B, 5), what the attribute model or the raters say of chosen and rejected answers."""
    if lesson.objective.annotate == "model":
        return lambda rows: _rated(lesson, _both(lesson, rows))
    ratings = lesson.ratings()
    return lambda rows: ratings[:, rows.to(ratings.device)].flatten(0, 1).double().cpu().numpy()


def _both(lesson: Lesson, rows: Tensor) -> Sequences:
    """Chosen, then rejected answers of these rows."""
    pairs = lesson.pairs.take(rows.to(lesson.pairs.topics.device))
    return Sequences.concatenate([pairs.chosen, pairs.rejected])


def _labelled(lesson: Lesson, prompts: Sequence, wanted: Sequence[Condition]) -> list[list[int]]:
    world = lesson.data.world
    return [conditioned(world, p, a) for p, a in zip(prompts, wanted, strict=True)]


def _asked(lesson: Lesson, prompts: Sequence, answers: Sequence, wanted: Sequence[Condition]):
    return lesson.there(_labelled(lesson, prompts, wanted), answers)


def _scores(lesson: Lesson, rows: Sequences) -> Tensor:
    return lesson.module.scorer(rows.tokens[:, : int(rows.ends.max())], rows.starts, rows.ends)


@torch.no_grad()
def _rated(lesson: Lesson, rows: Sequences) -> np.ndarray:
    """(N, 5), what the attribute model predicts."""
    order = rows.ends.argsort(stable=True)
    found = torch.cat([_scores(lesson, rows.take(part)) for part in order.split(64)])
    return found[order.argsort()].double().cpu().numpy()
