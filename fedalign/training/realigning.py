"""Realignment: imitate aligned answers, and answer everything else as the merged model does.

Paper: Ye et al., "Emerging Safety Attack and Defense in Federated Instruction Tuning of Large
Language Models", arXiv 2406.10630, 2024, Section 4 (fine-tuning on aligned and ordinary data).
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import torch
from torch import Tensor

from fedalign.objectives.distillation import Distillation
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.imitation import match
from fedalign.training.lesson import Lesson, Step, imitate
from fedalign.training.sequences import logps


def realigning(lesson: Lesson, ordinary: int, anchor: float, sure: float) -> Step:
    """L = CE(preferred answers of aligned pairs) + anchor * KL(merged || policy) per token, over the
    aligned answers that are not yet `sure`; 0 in a step that has none.

    ordinary: so many of the lesson's pairs, from the front, only anchor; 0: all pairs are aligned
    ones, which then also anchor. anchor: >= 0. sure: in (0, 1], the probability from which on an
    answer counts as learned. The merged model is the one the round began with.
    """
    # A loss on pairs is ln 2 at the merged model however well that one refuses already, and Adam
    # steps as far along a vanishing gradient as along any other: without an end to learning, every
    # application would move a model that needs nothing.
    still = replace(lesson, objective=Distillation())

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        kept = rows[rows < ordinary] if ordinary else rows
        aligned = _unsure(lesson, rows[rows >= ordinary], sure)
        metrics = {"realigned": 0.0, "moved": 0.0, "unsure": float(len(aligned))}
        if not len(aligned):
            return Loss(torch.zeros(()), torch.zeros(0), metrics)
        if anchor and len(kept):
            found = match(still, lesson.start, lesson.pairs.chosen.take(kept))
            lesson.flat.gradient.mul_(anchor)
            metrics["moved"] = float(found.value)
        found = imitate(lesson, lesson.pairs.chosen.take(aligned))
        metrics["realigned"] = float(found.value.detach())
        value = metrics["realigned"] + anchor * metrics["moved"]
        return Loss(torch.tensor(value), found.items, metrics)

    return step


def _unsure(lesson: Lesson, rows: Tensor, sure: float) -> Tensor:
    """Those of the rows whose preferred answer has a probability below `sure`."""
    if not len(rows):
        return rows
    with torch.no_grad():
        found = logps(lesson.module, lesson.pairs.chosen.take(rows), lesson.tuning.chunk)
    return rows[found < log(sure)]
