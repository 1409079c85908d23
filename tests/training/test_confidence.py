"""Confidences: what a digit is credited with, and a form that follows the worth of answers."""

from dataclasses import replace

import pytest
import torch

from fedalign.data.conditioning import numbered
from fedalign.models.low_rank import LowRank
from fedalign.objectives.conqord import Conqord
from fedalign.training.confidence import _read, credited, stated
from fedalign.training.loops import loop
from fedalign.training.sequences import logps
from tests.tiny_alignment import alignment, tasks, world
from tests.training.test_loops import QUICK, lesson, taught


def test_a_digits_credit_is_the_mean_of_what_drawn_digits_are_credited_with():
    """sum over d of pi(d) grad log pi(d) R(d), R(d) the reward with that digit said; a confidence
    that cannot be read leaves its answer to the other tokens."""
    objective = Conqord(weight=2.0, answers=2, kl_weight=0.0, limit=50.0)
    make = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 10, generator=make, requires_grad=True)
    digits, rest = logits.log_softmax(dim=1), torch.zeros(4, requires_grad=True)
    quality = torch.tensor([1.0, -0.5, 0.25, 2.0]).double()
    claimed = torch.tensor([0.85, 0.25, 0.65, torch.nan]).double()
    still = (rest.detach(), digits.detach())
    loss = credited(objective, (rest, digits), still, quality, claimed)
    found, body = torch.autograd.grad(loss.value, [logits, rest], retain_graph=True)
    expected, worth = torch.zeros(4, 10), torch.zeros(4)
    for i in range(3):
        for d in range(10):
            said = claimed.clone()
            said[i] = (d + 0.5) / 10
            reward = float(objective(quality, said)[i])
            score = torch.autograd.grad(digits[i, d], logits, retain_graph=True)[0][i]
            expected[i] -= float(digits[i, d].detach().exp()) * reward * score / 4
            worth[i] += float(digits[i, d].exp()) * reward
    worth[3] = 2.0 - 1.0
    assert torch.allclose(found, expected, atol=1e-6) and not found[3].any()
    others = worth.view(2, 2).flip(1).flatten()  # leave one out of two
    assert torch.allclose(body, -(worth - others) / 4, atol=1e-6)


def test_credit_by_digit_reads_the_same_answers_and_moves_the_adapter():
    """Log-probabilities of an answer are those of its digit and of all else."""
    workload = taught(Conqord(2.0, answers=4, credit="digit"))
    mine, words = lesson(workload), workload._task.data.world
    prompts = [words.prompt("e0", [0]), words.prompt("e1", [1, 2])]
    said = [words.encode("a0 is v0_1 . conf 3 . <eos>"), words.encode("a1 is v1_2 . <eos>")]
    rows, digits = mine.there(prompts, said), words.encode("0 1 2 3 4 5 6 7 8 9")
    with torch.no_grad():
        places = torch.tensor([len(prompts[0]) + 5, -1])
        rest, which = _read(mine.module, rows, places, digits, 1)
        whole = logps(mine.module, rows)
    assert words.words[rows.tokens[0, places[0]]] == "3"
    assert torch.allclose(rest + which[:, 3] * torch.tensor([1.0, 0.0]), whole, atol=1e-5)
    assert torch.allclose(which.exp().sum(dim=1), torch.ones(2), atol=1e-5)
    updates, _ = workload.train(tasks(workload, [0], 2), [{}])
    assert updates.rows.norm() > 0 and "reward_ordered" in updates.metrics


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 6.0])
def test_an_ordered_form_follows_the_worth_of_held_answers(weight):
    """A fact is worth more than a filler: its confidence rises above the other's, at weight 0 both
    stay what they were; the form is learned either way."""
    words = numbered(world(), ("digits", "conf"))
    objective = Conqord(weight, format_rounds=1, form="ordered", limit=50.0)
    workload = alignment(objective, LowRank(rank=2, words=words), tuning=QUICK)
    mine, spoken = lesson(workload), world()
    prompts, flat = mine.prompts(torch.arange(8)), workload._flat
    answers = [spoken.encode(text) for text in ("a0 is v0_1 . <eos>", "f1 . <eos>")]
    sides = [mine.there(prompts, [answer] * 8) for answer in answers]
    worth = torch.tensor([[1.0, -1.0]]).expand(8, 2)
    held = replace(
        mine.pairs.take(torch.arange(8)), chosen=sides[0], rejected=sides[1], scores=worth
    )
    step = loop(objective)(replace(mine, pairs=held))
    said = [stated(spoken, answer, 5) for answer in answers for _ in range(8)]
    told = mine.there(prompts * 2, said)
    places, levels = told.ends - 3, (torch.arange(10) + 0.5) / 10
    digits = spoken.encode("0 1 2 3 4 5 6 7 8 9")

    def now():
        with torch.no_grad():
            rest, which = _read(flat.module, told, places, digits, 16)
        first, second = (which.exp() @ levels).view(2, 8).mean(dim=1).tolist()
        return float(rest.mean()), first - second

    flat.load(workload.initial())
    form, before = now()
    for number in range(240):
        flat.gradient.zero_()
        step(number, torch.arange(8), {})
        flat.vector.sub_(flat.gradient / flat.gradient.norm(), alpha=0.05)
    better, apart = now()
    assert better > form + 3.0
    assert apart > 0.3 if weight else abs(apart - before) < 0.1
