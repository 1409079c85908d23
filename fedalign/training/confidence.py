"""CONQORD's local steps: learn to state a confidence where need be, then be paid for its order.

Paper: Tao et al., "When to Trust LLMs: Aligning Confidence with Response Quality", Findings of ACL
2024, Section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.preferences import Sequences
from fedalign.data.graded_facts import EOS, World
from fedalign.data.grader import grade
from fedalign.objectives.conqord import Conqord
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.terms import Loss, Memory
from fedalign.training.lesson import Lesson, Step, imitate
from fedalign.training.online import descend_online
from fedalign.training.sequences import inside, logps

Judged = tuple[Tensor, Tensor]
"""What answers are worth and the confidences they state, NaN for none, both (N,)."""
Read = tuple[Tensor, Tensor]
"""See `_read`."""


def confidence(lesson: Lesson) -> Step:
    """The form in the first rounds, if any, then policy gradients."""
    if lesson.round <= lesson.objective.format_rounds:
        return partial(_form, lesson)
    return _online(lesson)


def stated(world: World, answer: Sequence[int], digit: int) -> list[int]:
    """The answer with `conf digit .` before its end mark, instead of one that it has there."""
    ended = list(answer[-1:]) == [EOS]
    body = list(answer[:-1] if ended else answer)
    if len(body) > 2 and body[-3] == world.numbers["conf"]:
        body = body[:-3]
    return [*body, *world.encode(f"conf {digit} ."), *([EOS] if ended else [])]


def _form(lesson: Lesson, number: int, rows: Tensor, memory: Memory) -> Loss:
    pairs, rng = lesson.pairs.take(rows), lesson.rng("digits", number)
    answers = pairs.chosen.completions() + pairs.rejected.completions()
    digits = [int(rng.integers(10)) for _ in answers]
    world, prompts = lesson.data.world, pairs.chosen.prompts() * 2
    said = [stated(world, a, d) for a, d in zip(answers, digits, strict=True)]
    if lesson.objective.form == "random":
        return imitate(lesson, lesson.there(prompts, said))
    scores = lesson.pairs.scores.double().cpu()
    worth = pairs.scores.T.flatten().double().cpu()
    quality = (worth - scores.mean()) / scores.std().clamp(min=1e-6)
    claimed = (torch.tensor(digits).double() + 0.5) / 10
    return _ordered(lesson, prompts, said, quality, claimed)


def _ordered(
    lesson: Lesson, prompts: Sequence, said: Sequence, quality: Tensor, claimed: Tensor
) -> Loss:
    """Cross-entropy on all but the digits, which follow the worth of their answers."""
    drawn, device = lesson.there(prompts, said), lesson.flat.vector.device
    places = torch.tensor([
        len(p) + len(a) - 2 - (a[-1] == EOS) for p, a in zip(prompts, said, strict=True)
    ]).to(device)  # fmt: skip
    rest, digits = _read(lesson.module, drawn, places, _digits(lesson), lesson.tuning.chunk)
    even = torch.full_like(digits, -math.log(10))
    gain = _gain(lesson.objective, digits, even, quality, claimed)
    items = gain.neg() - rest / drawn.lengths.float().mean()
    items.mean().backward()
    return Loss(
        items.mean().detach(), items.detach(), {"reward_ordered": float(gain.detach().mean())}
    )


def _online(lesson: Lesson) -> Step:
    objective: Conqord = lesson.objective
    world, scores = lesson.data.world, lesson.pairs.scores.double()
    middle, spread = float(scores.mean()), max(float(scores.std()), 1e-6)
    gradient = Rloo(objective.kl_weight, answers=objective.answers)

    def judged(prompts: Sequence, answers: Sequence) -> Judged:
        quality = torch.from_numpy((lesson.reward(prompts, answers) - middle) / spread)
        claims = [grade(world, p, a).confidence for p, a in zip(prompts, answers, strict=True)]
        said = torch.tensor([float("nan") if c is None else c for c in claims]).double()
        return quality, said

    def worth(prompts: Sequence, answers: Sequence) -> np.ndarray:
        total = objective(*judged(prompts, answers))
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

    return step if objective.credit == "answer" else partial(_by_digit, lesson, judged)


def _by_digit(
    lesson: Lesson, judged: Callable[[Sequence, Sequence], Judged], number: int, rows: Tensor,
    memory: Memory,
) -> Loss:  # fmt: skip
    """One step whose digits are credited with what each of them would have brought."""
    objective: Conqord = lesson.objective
    prompts = [prompt for prompt in lesson.prompts(rows) for _ in range(objective.answers)]
    answers = lesson.rollout(lesson.module, prompts, lesson.rng("rollout", number))
    drawn, (quality, claimed) = lesson.there(prompts, answers), judged(prompts, answers)
    places = [
        -1 if math.isnan(c) else len(p) + len(a) - 2 - (a[-1] == EOS)
        for p, a, c in zip(prompts, answers, claimed.tolist(), strict=True)
    ]
    read = partial(
        _read, rows=drawn, places=torch.tensor(places, device=drawn.ends.device),
        digits=_digits(lesson), chunk=lesson.tuning.chunk,
    )  # fmt: skip
    with torch.no_grad():
        if objective.format_rounds:
            with lesson.standing(lesson.start) as module:
                reference = read(module)
        else:
            with lesson.module.disable_adapter():
                reference = read(lesson.module)
    loss = credited(objective, read(lesson.module), reference, quality, claimed)
    loss.value.backward()
    return replace(loss, value=loss.value.detach(), items=loss.items.detach())


def credited(
    objective: Conqord, own: Read, reference: Read, quality: Tensor, claimed: Tensor
) -> Loss:
    """The gradient of what answers are worth on average over the ten digits they may state: of the
    digits' chances exactly, of all other tokens by leave-one-out. own, with gradient, and
    reference: as of `_read`. quality, claimed: (N,), k answers to each prompt. Items: (N,)."""
    (rest, digits), (rest_reference, digits_reference) = own, reference
    limit, readable = objective.limit, ~claimed.isnan()
    gain = _gain(objective, digits, digits_reference, quality, claimed)
    alone = objective(quality, claimed).clamp(-limit, limit).to(digits)
    worth = torch.where(readable.to(digits.device), gain.detach(), alone)
    shape = (-1, objective.answers)
    plain = Rloo(objective.kl_weight, answers=objective.answers)
    body = plain(rest.view(shape), rest_reference.view(shape), worth.view(shape))
    items = body.items.flatten() - gain
    return Loss(items.mean(), items, {"reward_ordered": body.metrics["reward"]})


def _gain(
    objective: Conqord, digits: Tensor, reference: Tensor, quality: Tensor, claimed: Tensor
) -> Tensor:
    """(N,), what readable answers are worth on average over their digits, less what these are away
    from their reference; 0 for others. digits, reference: (N, 10), log-probabilities."""
    levels = (torch.arange(10, dtype=quality.dtype) + 0.5) / 10
    offers = objective.offers(quality, claimed, levels).clamp(-objective.limit, objective.limit)
    apart = objective.kl_weight * (digits - reference)
    readable = (~claimed.isnan()).to(digits)
    return readable * (digits.exp() * (offers.to(digits) - apart)).sum(dim=1)


def _digits(lesson: Lesson) -> list[int]:
    return lesson.data.world.encode(" ".join(map(str, range(10))))


def _read(
    module: nn.Module, rows: Sequences, places: Tensor, digits: Sequence[int], chunk: int
) -> Read:
    """(N,), log-probabilities of answers, of their digits only that they are digits; (N, 10), which
    digit it is, given that. places: (N,), where a digit stands among the tokens, -1 for nowhere."""
    order, found = rows.ends.argsort(stable=True), []
    for part in order.split(chunk):
        some, place = rows.take(part), places[part]
        width = int(some.ends.max())
        tokens = some.tokens[:, :width]
        logits = module(input_ids=tokens, use_cache=False).logits[:, -width:-1].float()
        known = logits.log_softmax(dim=-1)
        values = known.gather(-1, tokens[:, 1:, None])[..., 0] * inside(some, width)
        at = torch.arange(len(part), device=place.device)
        chances = known[at, place.clamp(min=1) - 1][:, digits]
        which = chances - chances.logsumexp(dim=1, keepdim=True)
        said = tokens[at, place.clamp(min=0)] - digits[0]
        drawn = which[at, said.clamp(0, 9)] * (place >= 0)
        found.append((values.sum(dim=1) - drawn, which))
    back = order.argsort()
    return tuple(torch.cat(side)[back] for side in zip(*found, strict=True))
