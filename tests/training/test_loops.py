"""Loops: critics, best of n, revision, teachers, conditions, confidences; on a tiny model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedalign.core.errors import ConfigError
from fedalign.data.conditioning import BEST, conditioned, numbered
from fedalign.data.graded_facts import EOS
from fedalign.data.grader import Grade
from fedalign.data.reviser import revise
from fedalign.models.low_rank import LowRank
from fedalign.objectives.conqord import Conqord
from fedalign.objectives.constitution import Constitution
from fedalign.objectives.distillation import Distillation
from fedalign.objectives.ppo import Ppo
from fedalign.objectives.rejection_sampling import RejectionSampling
from fedalign.objectives.sft import Sft
from fedalign.objectives.steerlm import SteerLm
from fedalign.objectives.steerlm2 import SteerLm2
from fedalign.training.confidence import stated
from fedalign.training.judged import calibration, divergence
from fedalign.training.lesson import imitate
from fedalign.training.loops import check_rounds, loop
from fedalign.training.sequences import logps
from fedalign.training.tuning import Tuning, adamw
from tests.tiny_alignment import MODEL, alignment, tasks, world

QUICK = Tuning(batch_size=6, lr=0.01, warmup_steps=0)
BETTER, WORSE = [30, EOS], [31, EOS]


def taught(objective, rounds=2, tuning=QUICK):
    workload = alignment(objective, tuning=tuning)
    workload._task = replace(workload._task, rounds=rounds)
    return workload


def lesson(workload, round=1, **changes):
    """The first client's."""
    (task,) = tasks(workload, [0], round=round)
    pairs = workload._held[0, False]
    workload._flat.load(task.vector)
    return replace(workload._lesson(task, pairs, task.vector), **changes)


def gap(workload, prompts):
    with torch.no_grad():
        first, second = (
            logps(workload._flat.module, lesson(workload).there(prompts, [a] * len(prompts)))
            for a in (BETTER, WORSE)
        )
    return float((first - second).mean())


def turns(module, asked, rng):
    """The better answer, then the worse one, in turn."""
    return [(BETTER, WORSE)[i % 2] for i in range(len(asked))]


def likes(asked, answers):
    return np.array([float(answer == BETTER) for answer in answers])


# ------------------------------------------------------------------ PPO


def test_actor_and_critic_share_a_base_and_nothing_else():
    workload = taught(Ppo())
    module, names = workload._flat.module, [part.name for part in workload.layout.parts]
    plain = alignment()
    assert workload.layout.size == 2 * plain.layout.size + MODEL.hidden + 1
    assert all(name.startswith(("policy.", "scorer.")) for name in names)
    frozen = {id(p) for p in module.policy.parameters() if not p.requires_grad}
    assert frozen == {id(p) for p in module.scorer.parameters() if not p.requires_grad}
    found = workload.evaluate(workload.initial())
    assert found["win_rate"] == 0.5 and found["kl_ref"] == 0.0


def test_ppo_parts_answers_and_its_critic_learns_what_to_expect():
    """Half of the answers are worth 1, half 0: values go to 1 / 2, the better answer gains."""
    objective = Ppo(kl_weight=0.0, answers=2, passes=2, standardise=False)
    workload = taught(objective)
    mine = lesson(workload, rollout=_Fixed(), reward=likes)
    step, rows, flat = loop(objective)(mine), torch.arange(6), workload._flat
    prompts, losses = mine.prompts(rows), []
    before = gap(workload, prompts)
    flat.load(workload.initial())
    for number in range(60):
        flat.gradient.zero_()
        loss = step(number, rows, {})
        if number == 0:
            assert loss.metrics["clip_fraction"] == loss.metrics["kl_samples"] == 0.0
            # returns .95 and 1 on two tokens of every second answer, values 0
            assert loss.metrics["critic_loss"] == pytest.approx((1 + 0.95**2) / 8, abs=1e-3)
        losses.append(loss.metrics["critic_loss"])
        flat.vector.sub_(flat.gradient / flat.gradient.norm(), alpha=0.05)
    now = flat.vector.clone()
    tokens = mine.there(prompts, [BETTER] * 6)
    values = flat.module.scorer.along(tokens.tokens)[torch.arange(6), tokens.starts - 1, 0]
    assert float(values.detach().mean()) == pytest.approx(0.5, abs=0.2) and losses[-1] < 0.18
    assert gap(workload, prompts) == pytest.approx(before)  # `lesson` loads the start
    flat.load(now)
    with torch.no_grad():
        sides = [logps(flat.module, mine.there(prompts, [a] * 6)) for a in (BETTER, WORSE)]
    assert float((sides[0] - sides[1]).mean()) > before + 0.5


class _Fixed:
    end = EOS

    def __call__(self, module, asked, rng):
        return turns(module, asked, rng)


# ------------------------------------------------------------------ imitation


def test_imitation_is_sft_and_rejection_sampling_imitates_the_best():
    workload = taught(RejectionSampling(answers=4))
    mine = lesson(workload, rollout=_Fixed(), reward=likes)
    rows, flat = torch.arange(6), workload._flat
    flat.gradient.zero_()
    loss = loop(mine.objective)(mine)(0, rows, {})
    found = flat.gradient.clone()
    assert loss.metrics == {"reward": 0.5, "reward_kept": 1.0}
    flat.gradient.zero_()
    plain = imitate(mine, mine.there(mine.prompts(rows), [BETTER] * 6))
    assert torch.allclose(found, flat.gradient, atol=1e-6)
    assert float(loss.value) == pytest.approx(float(plain.value), rel=1e-5)
    workload = taught(Sft())
    flat, pairs = workload._flat, workload._held[0, False].take(rows)
    mine = lesson(workload)
    flat.gradient.zero_()
    half = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    weighted = imitate(mine, pairs.chosen, half)
    first = flat.gradient.clone()
    flat.gradient.zero_()
    assert float(imitate(mine, pairs.chosen.take(rows[:3])).value) == pytest.approx(
        float(weighted.value), rel=1e-5
    )
    assert torch.allclose(first, flat.gradient, atol=1e-6)


@pytest.mark.parametrize("form", ["supervised", "preference"])
def test_revised_answers_become_likelier_than_first_ones(form):
    workload = taught(Constitution(revisions=9, form=form))
    mine, rows = lesson(workload), torch.arange(12)
    updates, _ = workload.train(tasks(workload, [0], steps=10), [{}])
    assert 0 < float(updates.metrics["rules_broken"][0]) <= 1
    prompts = mine.prompts(rows)
    first = mine.drawn(prompts, "revised", 0)
    better = [revise(mine.data.world, p, a, 9) for p, a in zip(prompts, first, strict=True)]
    said = []
    for vector in (workload.initial(), workload.initial() + updates.rows[0]):
        workload._flat.load(vector)
        with torch.no_grad():
            said.append(
                [logps(mine.module, mine.there(prompts, a)).mean() for a in (better, first)]
            )
    (old, _), (new, worse) = said
    assert new > old + 0.1 if form == "supervised" else new - worse > old - said[0][1] + 0.5


def test_a_student_nears_its_teacher_and_equals_itself():
    workload = taught(Distillation(teacher_steps=0))
    updates, _ = workload.train(tasks(workload, [0], steps=1), [{}])
    assert float(updates.metrics["distillation"][0]) == pytest.approx(0.0, abs=1e-6)
    other = workload.initial() + 0.05 * torch.randn(
        workload.layout.size, generator=torch.Generator().manual_seed(0)
    )
    workload._teacher = lambda: other
    one, _ = workload.train(tasks(workload, [0], steps=1), [{}])
    many, _ = workload.train(tasks(workload, [0], steps=30), [{}])
    start = float(one.metrics["distillation"][0])
    vector = workload.initial() + many.rows[0]
    after, _ = workload.train(tasks(workload, [0], steps=1, vector=vector), [{}])
    assert start > 0.005 and float(after.metrics["distillation"][0]) < 0.5 * start


def test_a_teacher_is_made_once_and_sequences_are_its_likeliest():
    workload = taught(Distillation(teacher_steps=2, level="sequence", sft=0.5))
    first, again = workload._teacher(), workload._teacher()
    assert torch.equal(first, again) and not torch.equal(first, workload.initial())
    updates, _ = workload.train(tasks(workload, [0], steps=2), [{}])
    assert updates.rows.norm() > 0


# ------------------------------------------------------------------ SteerLM


def test_stages_follow_the_rounds():
    assert [SteerLm(bootstrap_rounds=1).stage(r, 5) for r in range(1, 6)] == [
        "rate", "rate", "condition", "condition", "bootstrap",
    ]  # fmt: skip
    assert [SteerLm2(rating_rounds=1).stage(r, 4) for r in range(1, 5)] == [
        "rate", "condition", "weigh", "weigh",
    ]  # fmt: skip
    for make in (lambda: SteerLm(0), lambda: SteerLm2(answers=1), lambda: SteerLm(quality=0.0),
                 lambda: SteerLm2(weighted_rate=0.0), lambda: Constitution(rate_scale=0.0)):  # fmt: skip
        with pytest.raises(ConfigError):
            make()


def test_steering_rates_then_conditions_then_bootstraps_and_rests_what_a_stage_does_not_train():
    workload = taught(SteerLm(rating_rounds=1, bootstrap_rounds=1), rounds=3)
    vector, moved, errors = workload.initial(), [], []
    for round in (1, 2, 3):
        updates, _ = workload.train(tasks(workload, [0], 12, round, vector), [{}])
        views = workload.layout.views(updates.rows[0])
        moved.append({
            side: any(bool(v.any()) for name, v in views.items() if name.startswith(side))
            for side in ("policy", "scorer")
        })  # fmt: skip
        errors.append(updates.metrics.get("rm_attr_mae"))
        vector = vector + updates.rows[0]
    assert moved == [{"policy": r > 1, "scorer": r == 1} for r in (1, 2, 3)]
    found = workload.evaluate(vector)
    assert {"attr_control_mae", "attr_control_base", "attr_exact"} <= set(found)
    base = workload.evaluate(workload.initial())
    assert 0 <= found["attr_exact"] <= 1 and base["attr_control_mae"] > 0


def test_weighted_samples_rest_where_policy_and_target_agree():
    """One condition, answers all alike: w and b are both 1 / n, and nothing moves."""
    objective = SteerLm2(rating_rounds=1, weighted_rounds=1, answers=3)
    workload = taught(objective, rounds=2)
    mine = lesson(workload, round=2, rollout=lambda module, asked, rng: [BETTER] * len(asked))
    workload._flat.gradient.zero_()
    loss = loop(objective)(mine)(0, torch.arange(4), {})
    assert torch.allclose(loss.items, torch.zeros(4, 3), atol=1e-6)
    assert workload._flat.gradient.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("objective", "scales"),
    [
        (SteerLm2(rating_rounds=1, weighted_rounds=1, answers=2, weighted_rate=0.125), (1, 1, 0.125)),
        (SteerLm(rating_rounds=1), (1, 1, 1)),
        (Constitution(form="preference", rate_scale=0.5), (0.5, 0.5, 0.5)),
    ],
)  # fmt: skip
def test_objectives_of_off_policy_answers_take_smaller_steps(objective, scales):
    """Adam's first step moves every weight that has a gradient by the learning rate."""
    workload = taught(objective, rounds=3)
    start = workload.initial()
    start += 0.05 * torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    for round, scale in enumerate(scales, start=1):
        updates, _ = workload.train(tasks(workload, [0], 1, round, start), [{}])
        assert float(updates.rows.abs().max()) == pytest.approx(QUICK.lr * scale, rel=1e-3)


def test_rows_of_words_are_sent_and_leave_first_losses_at_ln_2():
    labels = numbered(world(), ("labels",))
    workload, plain = alignment(adapter=LowRank(rank=2, words=labels)), alignment()
    assert workload.layout.size == plain.layout.size + 26 * MODEL.hidden
    updates, _ = workload.train(tasks(workload, [0], 1), [{}])
    assert float(updates.metrics["train_loss"][0]) == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.slow
def test_conditions_are_obeyed_once_the_adapter_has_rows_for_labels():
    """The same fact told technically is rated complex, told plainly not: asked for one or the other,
    the model tells them apart, by a label that it had never met."""
    objective, spoken = SteerLm(1, bootstrap_rounds=0, dropout=0.0, annotate="raters"), world()
    rows, words = torch.arange(8), numbered(spoken, ("labels", "names"))
    workload = alignment(objective, LowRank(rank=4, words=words), tuning=QUICK)
    mine, flat = lesson(workload, round=2), workload._flat
    prompts = mine.prompts(rows)
    answers = [spoken.encode(f"{name} is v0_1 . <eos>") for name in ("A0", "a0")]
    sides = [mine.there(prompts, [answer] * 8) for answer in answers]
    ratings = torch.tensor([[4, 4, 4, 4, 2], [4, 4, 4, 0, 2]])[:, None].expand(2, 8, 5)
    held = replace(mine.pairs.take(rows), chosen=sides[0], rejected=sides[1])
    mine = replace(mine, pairs=held, ratings=lambda: ratings.float(), rounds=3)
    step = loop(objective)(mine)

    def leans(score):
        asked = [conditioned(spoken, p, {**BEST, "complexity": score}) for p in prompts]
        with torch.no_grad():
            first, second = (logps(mine.module, mine.there(asked, [a] * 8)) for a in answers)
        return float((first - second).mean())

    flat.load(workload.initial())
    assert abs(leans(4) - leans(0)) < 0.1

    def backward(number):
        return float(step(number, rows, {}).value)

    tuning = Tuning(lr=0.01, warmup_steps=0)
    adamw(flat, workload.initial(), 180, backward, lambda number: tuning.lr, tuning)
    assert leans(4) > 1.0 and leans(0) < -1.0


def test_a_first_stage_must_leave_a_round():
    check_rounds(Conqord(), 1)
    with pytest.raises(ConfigError, match=r"rating_rounds=3 leaves none of rounds=3"):
        check_rounds(SteerLm(rating_rounds=3), 3)


# ------------------------------------------------------------------ confidence


def test_a_confidence_is_learned_in_the_first_round_and_paid_for_in_the_second():
    workload = taught(
        Conqord(answers=2, format_rounds=1), tuning=Tuning(batch_size=8, lr=0.02, warmup_steps=0)
    )
    world = workload._task.data.world
    answer = world.encode("a0 is v0_3 . <eos>")
    assert world.decode(stated(world, answer, 7)) == "a0 is v0_3 . conf 7 . <eos>"
    assert world.decode(stated(world, answer[:-1], 0)) == "a0 is v0_3 . conf 0 ."
    assert stated(world, stated(world, answer, 7), 2) == stated(world, answer, 2)
    updates, _ = workload.train(tasks(workload, [0], steps=20), [{}])
    vector = workload.initial() + updates.rows[0]
    pairs, likelihood = workload._held[0, False].take(torch.arange(8)), []
    said = [stated(world, a, 5) for a in pairs.chosen.completions()]
    for now in (workload.initial(), vector):
        workload._flat.load(now)
        with torch.no_grad():
            rows = lesson(workload).there(pairs.chosen.prompts(), said)
            workload._flat.load(now)
            likelihood.append(float(logps(workload._flat.module, rows).mean()))
    assert likelihood[1] > likelihood[0] + 0.2
    later, _ = workload.train(tasks(workload, [0], 2, 2, vector), [{}])
    assert later.rows.norm() > 0 and "reward_ordered" in later.metrics


def test_calibration_of_grades_by_hand():
    """Confidences .85, .85, .25; right, wrong, wrong: bins of one tenth give 2/3 x .35 + 1/3 x .25;
    Brier (.0225 + .7225 + .0625) / 3."""
    grades = [
        Grade((4, 4, 4, 4, 2), confidence=0.85), Grade((2, 2, 4, 0, 2), confidence=0.85),
        Grade((0, 0, 4, 0, 2), confidence=0.25), Grade((4, 4, 4, 4, 2)),
    ]  # fmt: skip
    found = calibration(grades)
    assert found["ece"] == pytest.approx(2 / 3 * 0.35 + 1 / 3 * 0.25)
    assert found["brier"] == pytest.approx((0.0225 + 0.7225 + 0.0625) / 3)
    assert found["confidence_stated"] == 0.75 and found["correct_rate"] == pytest.approx(1 / 3)
    assert found["spearman_conf"] == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(calibration(grades[-1:])["ece"])


def test_divergence_leaves_a_stated_confidence_out_and_follows_the_modules_own_prompts():
    workload = alignment()
    vector = torch.full_like(workload.initial(), 0.05)
    workload._flat.load(vector)
    module, world = workload._flat.module, workload._task.data.world
    prompts = [world.prompt("e0", [0]), world.prompt("e1", [1, 2])]
    body = [world.encode("a0 is v0_1 ."), world.encode("a1 is v1_2 .")]
    said = [[*b, *world.encode("conf 3 . <eos>")] for b in body]
    whole = divergence(module, prompts, said)
    cut = divergence(module, prompts, said, until=world.numbers["conf"])
    plain = divergence(module, prompts, body)
    assert cut["kl_ref"] == pytest.approx(plain["kl_ref"], abs=1e-5) != whole["kl_ref"]
    assert divergence(module, prompts, body, prompts) == plain
    longer = [p[:-1] + world.encode("<lab> verbosity:2 <asst>") for p in prompts]
    assert divergence(module, prompts, body, longer) != plain
