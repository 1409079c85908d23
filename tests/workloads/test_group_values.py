"""Groups of annotators score the same sampled answers, and all clients climb one reward."""

import numpy as np
import pytest
import torch

from fedalign.core.contracts import ROOT
from fedalign.data.annotator import Annotator
from fedalign.data.graded_facts import CLUSTERS, WEIGHTS
from fedalign.data.grader import attributes_of
from fedalign.objectives.ppo import Ppo
from fedalign.objectives.rejection_sampling import RejectionSampling
from fedalign.objectives.rloo import Rloo
from fedalign.training.proximal import _scale
from fedalign.training.tuning import Tuning
from tests.tiny_alignment import alignment, tasks

RULES = ("mean", "min", "max", "adaptive")
QUICK = Tuning(batch_size=4, lr=0.01, warmup_steps=0)


def workload(objective, h=1.0, **knobs):
    return alignment(objective, tuning=QUICK, annotator=Annotator(heterogeneity=h, **knobs))


def answered(made, owner=ROOT):
    """Prompts and answers of all pairs of an owner, chosen ones first."""
    sides = (made._held[owner, False].chosen, made._held[owner, False].rejected)
    return [p for s in sides for p in s.prompts()], [a for s in sides for a in s.completions()]


def worth(made, prompts, answers, weights):
    world = made._task.data.world
    return attributes_of(world, prompts, answers) @ np.array(weights)


def test_groups_are_the_clusters_at_this_heterogeneity():
    """Half way between the gold weights and each cluster's; one named twice is one group."""
    names = ("terse_expert", "chatty_layman", "terse_expert")
    found = Annotator(heterogeneity=0.5, weight_noise=0.3, clusters=names).groups()
    halves = [(np.array(WEIGHTS) + np.array(CLUSTERS[name])) / 2 for name in names[:2]]
    assert np.allclose(found, halves)


def test_rewards_are_what_groups_gain_on_the_answers_that_the_server_holds():
    """Each group's scores minus its mean over these; then the least per answer."""
    made = workload(Rloo(groups="min"))
    prompts, answers = answered(made, 0)
    gains = [
        worth(made, prompts, answers, CLUSTERS[name])
        - worth(made, *answered(made), CLUSTERS[name]).mean()
        for name in ("terse_expert", "chatty_layman")
    ]
    assert made._reward(0)(prompts, answers) == pytest.approx(np.minimum(*gains))
    assert np.array_equal(made._reward(0)(prompts, answers), made._reward(1)(prompts, answers))
    mean = workload(Rloo(groups="mean"))._reward(2)
    assert mean(*answered(made)).mean() == pytest.approx(0, abs=1e-12)


def test_by_default_clients_climb_their_own_values():
    made = workload(Rloo())
    prompts, answers = answered(made)
    for client, name in enumerate(("terse_expert", "chatty_layman", "terse_expert")):
        own = worth(made, prompts, answers, CLUSTERS[name])
        assert made._reward(client)(prompts, answers) == pytest.approx(own)


@pytest.mark.parametrize("knobs", [{"h": 0.0}, {"clusters": ("stylist",)}], ids=["h0", "one"])
def test_where_all_agree_every_rule_trains_the_same_model(knobs):
    """To the bit among the rules; one's own values are the same but for a constant, which no
    baseline lets through."""
    rows = []
    for rule in RULES:
        made = workload(Rloo(answers=2, groups=rule), **knobs)
        rows.append(made.train(tasks(made, [0], steps=2), [{}])[0].rows)
    assert all(torch.equal(rows[0], other) for other in rows[1:]) and rows[0].norm() > 0.05
    own = workload(Rloo(), **knobs)._reward(0)(*answered(made))
    assert made._reward(0)(*answered(made)) == pytest.approx(own - own.mean())


@pytest.mark.parametrize(
    "objective",
    [Rloo, lambda **k: Rloo(baseline="group", **k), Ppo, RejectionSampling],
    ids=["rloo", "grpo", "ppo", "rejection_sampling"],
)
def test_every_online_objective_climbs_its_groups(objective):
    """At opposed values min, mean and own are three models."""
    rows = []
    for rule in ("own", "mean", "min"):
        made = workload(objective(answers=4, groups=rule))
        updates, _ = made.train(tasks(made, [1], steps=2), [{}])
        assert torch.isfinite(updates.rows).all() and "reward" in updates.metrics
        rows.append(updates.rows)
    assert not any(torch.equal(rows[i], rows[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_ppo_measures_rewards_in_deviations_of_what_it_climbs():
    for rule in ("own", "min"):
        made = workload(Ppo(groups=rule))
        (task,) = tasks(made, [1])
        pairs = made._held[1, False]
        mine = made._reward(1)(*answered(made, 1))
        scale = _scale(made._lesson(task, pairs, task.vector))
        assert scale == pytest.approx((mine.mean(), mine.std(ddof=1)), rel=1e-5)
