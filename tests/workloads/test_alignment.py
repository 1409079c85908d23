"""Alignment in a federation: what is sent, what is learned, what is measured."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from attacks.label_flip import LabelFlip
from attacks.preference_flip import PreferenceFlip
from fedalign.core.contracts import ROOT, Workload
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.core.preferences import Sequences
from fedalign.data.annotator import Annotator
from fedalign.data.partition.dirichlet import Dirichlet
from fedalign.models.virtual_tokens import VirtualTokens
from fedalign.objectives.beta_dpo import BetaDpo
from fedalign.objectives.dpo import Dpo
from fedalign.objectives.ipo import Ipo
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.sft import Sft
from fedalign.objectives.spin import Spin
from fedalign.training.online import descend_online
from fedalign.training.sequences import logps
from fedalign.training.tuning import Tuning
from tests.tiny_alignment import MODEL, alignment, tasks


@pytest.fixture(scope="module")
def workload() -> Workload:
    return alignment()


def test_a_payload_is_what_requires_a_gradient(workload):
    """Rank 2 on q, k, v, o (32 x 32) and gate, up, down (32 x 64): two layers."""
    per_layer = 4 * 2 * (32 + 32) + 3 * 2 * (32 + 64)
    assert workload.layout.size == 2 * per_layer
    assert all("lora" in part.name for part in workload.layout.parts)
    assert [c.samples for c in workload.clients] == [sum(c.classes) for c in workload.clients]


def test_the_untrained_adapter_is_its_reference(workload):
    """Loss ln 2, win rate one half, KL 0, all exactly."""
    found = workload.evaluate(workload.initial())
    assert found["loss"] == pytest.approx(log(2), abs=1e-7)
    assert found["accuracy"] == found["win_rate"] == found["win_low"] == 0.5
    assert found["kl_ref"] == found["kl_ref_k3"] == found["gold_gain"] == 0.0


@pytest.mark.parametrize("objective", [Dpo(0.5), Ipo(0.5)], ids=repr)
def test_the_first_loss_is_the_neutral_one_and_later_ones_are_lower(objective):
    workload = alignment(objective)
    one, _ = workload.train(tasks(workload, [0], steps=1), [{}])
    assert float(one.metrics["train_loss"][0]) == pytest.approx(objective.neutral, abs=1e-5)
    many, _ = workload.train(tasks(workload, [0], steps=30), [{}])
    assert float(many.metrics["train_loss"][0]) < objective.neutral - 0.01
    assert many.metrics["reward_margin"][0] > 0


def test_training_is_a_pure_function_of_its_tasks(workload):
    once, _ = workload.train(tasks(workload, [0, 1, 2]), [{}] * 3)
    turned, _ = workload.train(tasks(workload, [2, 0]), [{}] * 2)
    assert torch.equal(turned.rows[0], once.rows[2]) and torch.equal(turned.rows[1], once.rows[0])
    other, _ = alignment(seed=1).train(tasks(workload, [0]), [{}])
    assert not torch.equal(other.rows[0], once.rows[0])
    again, _ = alignment().train(tasks(workload, [1]), [{}])  # references from the cache
    assert torch.equal(again.rows[0], once.rows[1])


def test_an_objectives_memory_belongs_to_one_client():
    workload = alignment(BetaDpo(0.5))
    _, after = workload.train(tasks(workload, [0, 1]), [{}, {}])
    means = [memory["objective"]["mean"] for memory in after]
    assert means[0] != means[1] and all(m["objective"]["deviation"] > 0 for m in after)
    _, later = workload.train(tasks(workload, [0], round=2), [after[0]])
    assert later[0]["objective"]["mean"] != means[0]


def test_moments_that_are_kept_go_on_and_honest_and_poisoned_ones_never_meet():
    how = {"batch_size": 8, "lr": 0.005, "warmup_steps": 0}
    kept, anew = (alignment(tuning=Tuning(moments=m, **how)) for m in ("kept", "anew"))
    first, memories = kept.train(tasks(kept, [0]), [{}])
    same, forgotten = anew.train(tasks(anew, [0]), [{}])
    assert torch.equal(first.rows, same.rows) and "moments" not in forgotten[0]
    assert memories[0]["moments"]["steps"] == 3
    vector = kept.initial() + first.rows[0]
    second, after = kept.train(tasks(kept, [0], round=2, vector=vector), memories)
    other, _ = anew.train(tasks(anew, [0], round=2, vector=vector), forgotten)
    assert after[0]["moments"]["steps"] == 6 and memories[0]["moments"]["steps"] == 3
    assert not torch.allclose(second.rows, other.rows, atol=1e-5)
    lying = alignment(tuning=Tuning(moments="kept", **how), attackers=(0,), attack=PreferenceFlip())
    _, both = lying.train(tasks(lying, [0], poisoned=True), memories)
    assert both[0]["moments_poisoned"]["steps"] == 3 == both[0]["moments"]["steps"]


def test_a_reference_of_the_round_start_makes_every_rounds_first_loss_neutral():
    """Away from the base model: ln 2 against the received model, something else against the base."""
    torch.manual_seed(0)
    found = {}
    for name in ("round_start", "sft"):
        workload = alignment(tuning=Tuning(batch_size=20, lr=0.005, reference=name))
        model = workload.initial() + 0.05 * torch.randn(workload.layout.size)
        updates, _ = workload.train(tasks(workload, [0], steps=1, round=2, vector=model), [{}])
        found[name] = float(updates.metrics["train_loss"][0])
    assert found["round_start"] == pytest.approx(log(2), abs=1e-5)
    assert abs(found["sft"] - log(2)) > 1e-3


def test_corrections_edit_the_local_gradient(workload):
    frozen, _ = workload.train(tasks(workload, [0]), [{}], lambda g, p, s: g * 0)
    assert frozen.rows.abs().max() == 0


def test_the_servers_split_needs_no_sampling_and_its_update_is_a_clients(workload):
    found = workload.evaluate(workload.initial(), "server")
    assert set(found) == {"accuracy", "loss"} and found["loss"] == pytest.approx(log(2), abs=1e-7)
    root, _ = workload.train(tasks(workload, [ROOT]), [{}])
    assert root.rows.norm() > 0 and int(root.samples[0]) == len(workload._held[ROOT, False])
    with pytest.raises(ConfigError, match="no split 'triggered'"):
        workload.evaluate(workload.initial(), "triggered")


def test_samples_show_the_same_prompts_before_and_after(workload):
    row, *_ = workload.samples(workload.initial(), 3)
    assert row["before"] == row["after"] and row["gold_before"] == row["gold_after"]
    assert row["prompt"].startswith("<bos> <usr> e")


def test_a_wrong_reference_is_found_at_once(workload):
    broken = alignment()
    broken._known[0, False] = workload._reference((0, False), workload._held[0, False]) + 0.5
    with pytest.raises(IntegrityError, match="first loss is not ln 2"):
        broken.train(tasks(broken, [0]), [{}])


def test_sft_raises_the_likelihood_of_chosen_answers():
    workload = alignment(Sft())
    updates, _ = workload.train(tasks(workload, [0], steps=30), [{}])
    chosen, means = workload._held[0, False].chosen, []
    for vector in (workload.initial(), workload.initial() + updates.rows[0]):
        workload._flat.load(vector)
        with torch.no_grad():
            means.append(float(logps(workload._flat.module, chosen).mean()))
    assert means[1] > means[0] + 1


def test_refusals():
    with pytest.raises(ConfigError, match="take attack=preference_flip"):
        alignment(attack=LabelFlip(), attackers=(0,))
    with pytest.raises(ConfigError, match=r"raise model\.vocabulary from 20"):
        alignment(model=replace(MODEL, vocabulary=20))
    broken = alignment(tuning=Tuning(lr=1e30, batch_size=8, warmup_steps=0))
    with pytest.raises(
        Exception, match="Client 1 failed in round 1 while it was to train: the loss"
    ):
        broken.train(tasks(broken, [1], steps=9), [{}])


def test_an_online_step_parts_the_better_answer_from_the_worse():
    """Two answers to every prompt, worth 1 and 0: against the gradient their log-probabilities
    part, and the loss is minus the mean gap over two, log pi(better) - log pi(worse) times 1 / 2.
    """
    workload = alignment()
    module, flat = workload._flat.module, workload._flat
    prompts, (better, worse) = workload._held[0, False].chosen.prompts()[:8], ([30, 2], [31, 2])
    flat.load(workload.initial())
    flat.gradient.zero_()
    loss = descend_online(
        module, prompts, Rloo(0.0, answers=2),
        lambda asked, answers: np.array([float(answer == better) for answer in answers]),
        lambda module, asked, rng: [better, worse] * (len(asked) // 2),
        np.random.default_rng(0), 64,
    )  # fmt: skip
    gradient, gaps = flat.gradient.clone(), []
    for size in (0.0, 0.003, 0.01):
        flat.load(workload.initial() - size * gradient)
        with torch.no_grad():
            first, second = (
                logps(module, Sequences.of(prompts, [answer] * 8)) for answer in (better, worse)
            )
        gaps.append(float((first - second).mean()))
    assert float(loss.value) == pytest.approx(-gaps[0] / 2, abs=1e-5)
    assert gaps[0] < gaps[1] < gaps[2]


def test_a_client_trains_online_on_its_own_values():
    workload = alignment(Rloo(0.0), tuning=Tuning(batch_size=4))
    updates, _ = workload.train(tasks(workload, [0], steps=2), [{}])
    assert updates.rows.norm() > 0 and {"reward", "kl_samples"} <= set(updates.metrics)


def test_self_play_compares_with_its_own_iterate_and_nears_the_data():
    """At the start of every round policy and reference agree: the first loss is ln 2, twice."""
    workload = alignment(Spin(0.5))
    vector = workload.initial()
    for round in (1, 2):
        one, _ = workload.train(tasks(workload, [0], 1, round, vector), [{}])
        assert float(one.metrics["train_loss"][0]) == pytest.approx(log(2), abs=1e-5)
        many, _ = workload.train(tasks(workload, [0], 20, round, vector), [{}])
        assert float(many.metrics["train_loss"][0]) < log(2) - 0.01
        vector = vector + many.rows[0]


def test_clients_differ_by_noise_and_by_what_they_are_asked():
    """Every second annotator errs in half of its labels; Dirichlet cuts by counts of facts."""
    workload = alignment(
        clients=4, annotator=Annotator(errors=(0.0, 0.5)), topic="count", answers="demonstrator",
        partition=Dirichlet(0.2, min_samples=5), pairs=400,
    )  # fmt: skip
    shares = [float(workload._held[c, False].flipped.double().mean()) for c in range(4)]
    assert shares[0] == shares[2] == 0 and min(shares[1], shares[3]) > 0.3
    counts = np.array([client.classes for client in workload.clients])
    asked = [[len(p) - 6 for p in workload._held[c, False].chosen.prompts()] for c in range(4)]
    assert counts.tolist() == [np.bincount(a, minlength=3).tolist() for a in asked]
    assert (counts / counts.sum(axis=1, keepdims=True)).max() > 0.7


def test_clients_without_pairs_are_refused():
    with pytest.raises(ConfigError, match=r"Client 1 got none of the \d+ pairs: raise data\.pairs"):
        alignment(partition=lambda labels, n, rng: [np.arange(len(labels))] + [np.arange(0)] * 2)


def test_virtual_tokens_say_that_first_losses_are_not_ln_2():
    """They change answers before any training; LoRA does not, and is held to ln 2."""
    workload = alignment(adapter=VirtualTokens(tokens=2))
    assert "first losses are not ln 2" in workload.source
    first = workload.train(tasks(workload, [0], steps=1), [{}])[0].metrics["train_loss"].item()
    neutral = alignment()
    assert "ln 2" not in neutral.source and abs(first - log(2)) > 1e-2
    found = neutral.train(tasks(neutral, [0], steps=1), [{}])[0].metrics["train_loss"].item()
    assert found == pytest.approx(log(2), abs=1e-5)
