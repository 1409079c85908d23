"""Realignment: imitate aligned answers, and answer everything else as the merged model does.

Paper: Ye et al., "Emerging Safety Attack and Defense in Federated Instruction Tuning of Large
Language Models", arXiv 2406.10630, 2024, Section 4 (fine-tuning on aligned and ordinary data).
"""

from __future__ import annotations

from dataclasses import replace
from math import exp

import torch
from torch import Tensor

from fedalign.objectives.distillation import Distillation
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.imitation import match
from fedalign.training.lesson import Lesson, Step, imitate
from fedalign.training.sequences import logps


def realigning(lesson: Lesson, ordinary: int, anchor: float, sure: float) -> Step:
    """L = CE(preferred answers of aligned pairs) + anchor * KL(merged || policy) per token; 0 where
    the merged model gives those answers already.

    ordinary: so many of the lesson's pairs, from the front, only anchor; 0: all pairs are aligned
    ones, which then also anchor. anchor: >= 0. sure: in (0, 1], the mean probability (geometric,
    over aligned answers) from which on the merged model needs nothing. The merged model is the one
    that the lesson starts from.
    """
    # A loss on pairs is ln 2 at the merged model however well that one refuses already, and Adam
    # steps as far along a vanishing gradient as along any other: a model that needs nothing must
    # meet no gradient at all.
    still = replace(lesson, objective=Distillation())
    if _known(lesson, ordinary) >= sure:
        metrics = {"realigned": 0.0, "moved": 0.0}
        return lambda number, rows, memory: Loss(torch.zeros(()), torch.zeros(0), metrics)

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        aligned, kept = rows[rows >= ordinary], rows[rows < ordinary] if ordinary else rows
        metrics, items = {"realigned": 0.0, "moved": 0.0}, torch.zeros(0)
        if anchor and len(kept):
            found = match(still, lesson.start, lesson.pairs.chosen.take(kept))
            lesson.flat.gradient.mul_(anchor)
            metrics["moved"] = float(found.value)
        if len(aligned):
            found = imitate(lesson, lesson.pairs.chosen.take(aligned))
            metrics["realigned"], items = float(found.value.detach()), found.items
        value = metrics["realigned"] + anchor * metrics["moved"]
        return Loss(torch.tensor(value), items, metrics)

    return step


@torch.no_grad()
def _known(lesson: Lesson, ordinary: int) -> float:
    """The geometric mean of the probabilities of aligned answers under the lesson's first model; 1
    where there are none."""
    rows = torch.arange(ordinary, len(lesson.pairs), device=lesson.pairs.topics.device)
    if not len(rows):
        return 1.0
    found = logps(lesson.module, lesson.pairs.chosen.take(rows), lesson.tuning.chunk)
    return exp(float(found.mean()))
