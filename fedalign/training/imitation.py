"""Imitating chosen answers: the best of several, revised ones, a teacher's, or none of these.

Papers: Touvron et al., "Llama 2", 2023, Section 3.2.3 (rejection sampling); Bai et al.,
"Constitutional AI", 2022 (revision); Calderon et al., "A Systematic Study of Knowledge Distillation
for Natural Language Generation with Pseudo-Target Training", ACL 2023 (sequence level).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedalign.core.preferences import Sequences
from fedalign.data.reviser import critique, revise
from fedalign.objectives.constitution import Constitution
from fedalign.objectives.distillation import Distillation
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.rejection_sampling import RejectionSampling
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.lesson import Lesson, Step, imitate
from fedalign.training.pair_terms import Batch, descend
from fedalign.training.reference import reference_logps
from fedalign.training.sequences import inside

LIKELIEST = 0.01  # a temperature at which the likeliest word is drawn


def _measured(loss: Loss, **metrics: float) -> Loss:
    return replace(loss, metrics={**loss.metrics, **metrics})


def rejection_sampling(lesson: Lesson) -> Step:
    """Best of `answers` of the round's first model, by the client's own values."""
    objective: RejectionSampling = lesson.objective

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        prompts = [p for p in lesson.prompts(rows) for _ in range(objective.answers)]
        answers = lesson.drawn(prompts, "best_of", number)
        worth = torch.from_numpy(lesson.reward(prompts, answers))
        places = torch.arange(len(rows)).repeat_interleave(objective.answers)
        best = objective(worth, places).nonzero()[:, 0].tolist()
        loss = imitate(lesson, lesson.there(*_taken(prompts, answers, best)))
        kept = {"reward": float(worth.mean()), "reward_kept": float(worth[best].mean())}
        return _measured(loss, **kept)

    return step


def _taken(prompts: list, answers: list, rows: list[int]) -> tuple[list, list]:
    return [prompts[i] for i in rows], [answers[i] for i in rows]


def constitution(lesson: Lesson) -> Step:
    """Answers of the round's first model, criticised and revised."""
    objective: Constitution = lesson.objective
    world = lesson.data.world

    def step(number: int, rows: Tensor, memory: Memory) -> Loss:
        prompts = lesson.prompts(rows)
        answers = lesson.drawn(prompts, "revised", number)
        revised = [
            revise(world, p, a, objective.revisions) for p, a in zip(prompts, answers, strict=True)
        ]
        broken = [critique(world, p, a) for p, a in zip(prompts, answers, strict=True)]
        share = {"rules_broken": float(np.mean([rule is not None for rule in broken]))}
        if objective.form == "supervised":
            told = [i for i, answer in enumerate(revised) if answer]
            return _measured(
                imitate(lesson, lesson.there(*_taken(prompts, revised, told))), **share
            )
        changed = [i for i, a in enumerate(revised) if a and a != answers[i]]
        return _measured(_preferred(lesson, prompts, revised, answers, changed), **share)

    return step


def _preferred(lesson: Lesson, prompts: list, better: list, worse: list, rows: list[int]) -> Loss:
    """DPO against the base model; nothing to learn where no answer was changed."""
    names = ("reward_accuracy", "reward_margin", "chosen_logp", "rejected_logp")
    if not rows:
        return Loss(torch.zeros(()), torch.zeros(0), dict.fromkeys(names, 0.0))
    sides = [lesson.there(*_taken(prompts, answers, rows)) for answers in (better, worse)]
    reference = torch.stack([reference_logps(lesson.module, s) for s in sides], dim=1)
    pairs = replace(
        lesson.pairs.take(torch.zeros(len(rows)).long()), chosen=sides[0], rejected=sides[1]
    )
    loss = descend(lesson.module, Batch(pairs, reference), Dpo(lesson.objective.beta), {},
                   lesson.tuning.chunk)  # fmt: skip
    return _measured(loss)


def distillation(lesson: Lesson) -> Step:
    """Towards the teacher's distributions on the data's answers, or towards its own answers."""
    objective: Distillation = lesson.objective
    teacher, truths = lesson.teacher(), lesson.truths()
    greedy = replace(lesson.rollout, temperature=LIKELIEST)

    def sequences(number: int, rows: Tensor, memory: Memory) -> Loss:
        prompts = lesson.prompts(rows)
        with lesson.standing(teacher) as module:
            answers = greedy(module, prompts, lesson.rng("teacher", number))
        return _together(imitate(lesson, lesson.there(prompts, answers)), rows)

    def tokens(number: int, rows: Tensor, memory: Memory) -> Loss:
        return _together(match(lesson, teacher, _data(rows)), rows)

    def _data(rows: Tensor):
        return lesson.there(lesson.prompts(rows), [truths[i] for i in rows.tolist()])

    def _together(loss: Loss, rows: Tensor) -> Loss:
        """Cross-entropy on the data's answers beside it, where it has a weight."""
        parts: Mapping[str, float] = {"distillation": float(loss.value)}
        if not objective.sft:
            return _measured(loss, **parts)
        kept = lesson.flat.gradient.clone()
        lesson.flat.gradient.zero_()
        plain = imitate(lesson, _data(rows))
        lesson.flat.gradient.mul_(objective.sft).add_(kept)
        return replace(loss, value=loss.value + objective.sft * plain.value, metrics=parts)

    return sequences if objective.level == "sequence" else tokens


def match(lesson: Lesson, teacher: Tensor, rows: Sequences) -> Loss:
    """Add the gradient of the divergence between the next-token distributions of the teacher (d,)
    and the model on the completions of `rows`, mean over tokens, to .grad. The lesson's objective
    is a Distillation."""
    total, value, items = rows.lengths.sum(), 0.0, []
    for part in rows.ends.argsort(stable=True).split(lesson.tuning.chunk):
        some = rows.take(part)
        width = int(some.ends.max())
        mask, tokens = inside(some, width).float(), some.tokens[:, :width]
        with torch.no_grad(), lesson.standing(teacher) as module:
            theirs = _logits(module, tokens, lesson.rollout.words)
        loss = lesson.objective(_logits(lesson.module, tokens, lesson.rollout.words), theirs, mask)
        share = loss.value * mask.sum() / total
        share.backward()
        value += float(share.detach())
        items.append((loss.items.detach() * mask).sum(dim=1))
    return Loss(torch.tensor(value), torch.cat(items))


def _logits(module, tokens: Tensor, words: int) -> Tensor:
    """(B, T) -> (B, T - 1, words): entry t is of token t + 1."""
    found = module(input_ids=tokens, use_cache=False).logits
    return found[:, -tokens.shape[1] : -1, :words]
