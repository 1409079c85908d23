"""Every attack on updates and every rule of the Faker study, unchanged, on real LoRA updates."""

from functools import cache

import numpy as np
import pytest
import torch

from experiments import catalogue, compose
from experiments.build import build
from fedalign.core.contracts import Context, UpdateAttack, require
from fedalign.core.errors import ConfigError
from fedalign.core.streams import StreamingDefense
from fedalign.core.threat import View
from tests.tiny_alignment import alignment, tasks

CLIENTS, LIARS = 13, 2
FITTED = ("dynamic_server_minimax",)  # needs the accuracies of a pilot study
ATTACKS = ("faker_flip", "faker_norm", "gauge_flip", "lie", "min_max", "sign_flip", "mpaf")
RULES = (
    "krum",
    "median",
    "trimmed_mean",
    "norm_filter",
    "fltrust",
    "product_space+krum",
    "spp+krum",
)
WRAPPERS = ("spp", "spp_layerwise", "nnm", "bucketing", "arc", "per_part", "product_space",
            "product_svd", "err", "err_union", "lfr")  # fmt: skip


def some(names, quick):
    """All of them, most of them slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def rules():
    plain = [
        name for name in catalogue.names("defense") if name not in WRAPPERS and name not in FITTED
    ]
    return [*plain, *(f"{wrapper}+krum" for wrapper in WRAPPERS)]


@cache
def world():
    """Two local steps of thirteen clients."""
    workload = alignment(clients=CLIENTS, pairs=130)
    updates, _ = workload.train(tasks(workload, range(CLIENTS), steps=2), [{}] * CLIENTS)
    return workload, updates


def made(group, name):
    return build(compose._node(group, name)[group])


def context(rule):
    workload, updates = world()
    evaluate = (lambda v: workload.evaluate(v, "server")) if "evaluate" in rule.needs else None
    return Context(
        round=2, clients=updates.clients, weights=updates.samples.double(), byzantine_count=LIARS,
        model=workload.initial(), previous=workload.initial(), layout=workload.layout,
        root_update=updates.rows[-1], evaluate=evaluate, rng=np.random.default_rng(1),
    )  # fmt: skip


def attacked(attack, rule):
    workload, updates = world()
    own = updates.rows[:LIARS]
    view = View(
        round=2, clients=CLIENTS, own=own, model=workload.initial(), initial=workload.initial(),
        poisoned=-own, past=workload.initial(), space=rule.space, family=rule.family,
        benign=updates.rows[LIARS:], rule=rule, context=context(rule), layout=workload.layout,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    rows = torch.cat([attack(view).rows, updates.rows[LIARS:]])
    return rows[torch.isfinite(rows).all(dim=1)]


def decided(rule, rows):
    """The rule's aggregate; of a rule that evaluates models, by this workload's server."""
    kept = torch.arange(CLIENTS - len(rows), CLIENTS)
    return rule(rows, context(rule).rows(kept))


@pytest.mark.parametrize("name", some(catalogue.names("attack"), ATTACKS))
def test_every_attack_on_updates_crafts_rows_that_the_model_takes(name):
    attack, (workload, updates) = made("attack", name), world()
    if not isinstance(attack, UpdateAttack):
        pytest.skip("poisons data")
    rule = made("defense", "multi_krum")
    rows = attacked(attack, rule)
    found = decided(rule, rows)
    assert rows.shape[1] == workload.layout.size and len(found.accepted) == len(rows)
    assert torch.isfinite(found.vector).all() and not torch.equal(found.vector, updates.rows[0])


@pytest.mark.parametrize("name", some(rules(), RULES))
def test_every_rule_answers_for_adapters_and_robust_ones_stay_near_the_honest(name):
    """Against reversed rows of fivefold length: no rule breaks, and those that take rows, or their
    middle, still go the honest way."""
    rule, (workload, updates) = made("defense", name), world()
    if isinstance(rule, StreamingDefense):
        pytest.skip("sees no matrix")
    try:
        require(rule, CLIENTS, LIARS)
        found = decided(rule, attacked(made("attack", "sign_flip5"), rule))
    except ConfigError as refusal:
        pytest.fail(f"{name} refuses adapters: {refusal}")
    assert found.vector.shape == (workload.layout.size,) and torch.isfinite(found.vector).all()
    robust = ("krum", "multi_krum", "median", "trimmed_mean", "geometric_median", "meamed")
    if name in robust or name.endswith("+krum"):
        honest = updates.rows[LIARS:].mean(0)
        assert torch.cosine_similarity(found.vector, honest, dim=0) > 0
