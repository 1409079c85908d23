"""FedBiscuit: warm-up in turn, balanced groups by loss, votes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from experiments.workload_cell import divided
from fedalign.algorithms.fed_biscuit import FedBiscuit, balanced
from fedalign.core.contracts import Updates
from fedalign.core.errors import ConfigError
from tests.tiny_alignment import tasks
from tests.workloads.test_reward_model import reward_model


@pytest.mark.parametrize(("n", "models"), [(6, 3), (7, 3), (5, 2), (2, 3), (8, 3)])
def test_groups_are_even_and_their_total_loss_is_the_least(n, models):
    """Against every assignment whose sizes differ by at most one."""
    losses = np.random.default_rng(n).random((n, models))
    found = balanced(losses)
    even = lambda groups: np.ptp(np.bincount(groups, minlength=models)) <= 1  # noqa: E731
    assert even(found)
    total = lambda groups: losses[np.arange(n), groups].sum()  # noqa: E731
    best = min(total(list(g)) for g in product(range(models), repeat=n) if even(list(g)))
    assert total(found) == pytest.approx(best)


def test_who_did_not_tell_goes_where_there_is_room():
    losses = np.array([[0.0, 9.0], [np.nan, np.nan], [0.0, 9.0], [np.inf, 0.0]])
    assert balanced(losses).tolist() == [0, 1, 0, 1]


def test_models_are_warmed_up_in_turn_by_everybody_then_trained_by_their_groups():
    single, algorithm = reward_model(), FedBiscuit(count=2, warmup=2, regroup=3)
    workload, size = divided(single, algorithm), single.layout.size
    assert [algorithm.regroups(r) for r in range(1, 8)] == [0, 0, 0, 1, 0, 0, 1]
    for round, turn in ((1, 0), (2, 0), (3, 1), (4, 1)):
        asked = algorithm.assign(tasks(workload, [0, 1], round=round), None, {})
        found, _ = algorithm.client_step(workload, asked, [{}] * 2)
        halves = found.rows[:, :size].any(), found.rows[:, size:].any()
        assert halves == ((True, False) if turn == 0 else (False, True))
    unknown, _ = algorithm.client_step(workload, tasks(workload, [0, 1], round=5), [{}] * 2)
    assert unknown.metrics["cluster"].tolist() == [0, 0]
    known = {"groups": torch.tensor([1, 0])}
    asked = algorithm.assign(tasks(workload, [0, 1], round=5), None, known)
    found, _ = algorithm.client_step(workload, asked, [{}] * 2)
    assert found.metrics["cluster"].tolist() == [1, 0]
    assert found.rows[0, size:].any() and not found.rows[0, :size].any()


def test_clients_probe_every_model_on_their_own_data():
    """A model trained by client 0 fits it better than the untrained one does."""
    single, algorithm = reward_model(), FedBiscuit(count=2)
    workload = divided(single, algorithm)
    row = single.train(tasks(single, [0], steps=30), [{}])[0].rows[0]
    vector = torch.cat([single.initial(), single.initial() + row])
    asked = [replace(t, step="probe") for t in tasks(workload, [0, 1], vector=vector)]
    found = algorithm.client_probe(workload, asked, [{}] * 2)
    untrained, trained = (found.metrics[f"loss_of_model_{k}"] for k in (0, 1))
    assert untrained.tolist() == pytest.approx([np.log(2)] * 2) and trained[0] < untrained[0]
    assert algorithm.grouped(found, {})["groups"].sum() == 1  # one client each
    lone = Updates(
        torch.tensor([1]), torch.zeros(1, 0), torch.tensor([40]),
        metrics={k: v[1:] for k, v in found.metrics.items()}, failed={0: "gone"},
    )  # fmt: skip
    best = int(torch.stack([untrained[1], trained[1]]).argmin())
    assert algorithm.grouped(lone, {"kept": 1}) == {
        "kept": 1, "groups": pytest.approx(torch.tensor([1 - best, best])),
    }  # fmt: skip


def test_the_majority_of_three_models_outvotes_one_that_is_wrong():
    single, algorithm = reward_model(), FedBiscuit(count=3)
    workload = divided(single, algorithm)
    row = single.train(tasks(single, [0], steps=30), [{}])[0].rows[0]
    good = single.initial() + row
    bad = good.clone()
    spans = [part.span for part in single.layout.parts if part.name.startswith("head.")]
    for span in spans:
        bad[span] = -good[span]  # the opposite of every answer
    right, wrong = (single.evaluate(v)["rm_accuracy"] for v in (good, bad))
    assert right > 0.5 and right + wrong == pytest.approx(1)
    found = workload.evaluate(torch.cat([good, bad, good]))
    assert found["rm_accuracy"] == right
    assert found["rm_accuracy_each"] == pytest.approx((2 * right + wrong) / 3)


def test_numbers_that_make_no_sense_are_refused():
    for wrong in ({"warmup": 0}, {"regroup": 0}, {"count": 10}):
        with pytest.raises(ConfigError):
            FedBiscuit(**wrong)
