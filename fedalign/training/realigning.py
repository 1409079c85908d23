"""Realignment: imitate aligned answers, and answer everything else as the merged model does.

Paper: Ye et al., "Emerging Safety Attack and Defense in Federated Instruction Tuning of Large
Language Models", arXiv 2406.10630, 2024, Section 4 (fine-tuning on aligned and ordinary data).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedalign.objectives.distillation import Distillation
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.imitation import match
from fedalign.training.lesson import Lesson, Step, imitate


def realigning(lesson: Lesson, ordinary: int, anchor: float) -> Step:
    """L = CE(preferred answers of aligned pairs) + anchor * KL(merged || policy) per token.

    ordinary: so many of the lesson's pairs, from the front, only anchor; 0: all pairs are aligned
    ones, which then also anchor. anchor: >= 0. The merged model is the one the round began with.

    # A loss on pairs is ln 2 at the merged model however well that one already refuses, so that
    # every application would push on; cross-entropy ends where the refusal is certain.
    """
    still = replace(lesson, objective=Distillation())

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        aligned, kept = rows[rows >= ordinary], rows[rows < ordinary] if ordinary else rows
        value, items = torch.zeros(()), torch.zeros(0)
        metrics = {"realigned": 0.0, "moved": 0.0}
        if anchor and len(kept):
            found = match(still, lesson.start, lesson.pairs.chosen.take(kept))
            lesson.flat.gradient.mul_(anchor)
            value, metrics["moved"] = value + anchor * found.value, float(found.value)
        if len(aligned):
            found = imitate(lesson, lesson.pairs.chosen.take(aligned))
            value, items = value + found.value.detach().cpu(), found.items
            metrics["realigned"] = float(found.value.detach())
        return Loss(value, items, metrics)

    return step
