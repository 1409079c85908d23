"""The example app is a plain Flower app: Flower's own strategies run it, ours do better on it."""

import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from flwr.serverapp.strategy import FedAvg, Krum

import defenses.fedavg
import defenses.krum
from attacks.sign_flip import SignFlip
from experiments.flower_example import app as example
from fedalign.federation.runtimes.flower.apps import run_local
from fedalign.federation.runtimes.flower.mods import Malicious
from fedalign.federation.runtimes.flower.strategy import Defended

KEYS = {"fraction_evaluate": 0.0, "min_train_nodes": 9}


def trained(strategy, mods=(), rounds=4):
    results = []
    run_local(example.make_server(strategy, rounds, results), example.make_client(mods), nodes=9)
    (result,) = results
    return result, [result.evaluate_metrics_serverapp[i]["accuracy"] for i in range(rounds + 1)]


def _vector(result):
    return np.concatenate([a.numpy().ravel() for a in result.arrays.values()])


def test_a_whole_run_under_our_mean_is_flowers():
    ours = trained(Defended(defenses.fedavg.FedAvg("samples"), **KEYS))
    theirs = trained(FedAvg(**KEYS))
    np.testing.assert_allclose(_vector(ours[0]), _vector(theirs[0]), atol=1e-5)
    assert ours[1] == pytest.approx(theirs[1], abs=0.005) and theirs[1][-1] > 0.8
    losses = [r.train_metrics_clientapp[4]["loss"] for r in (ours[0], theirs[0])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_whole_run_under_our_krum_is_flowers():
    """Every round's choice counts, since the next round starts from it."""
    liars = [Malicious(SignFlip(scale=5.0), members={0, 3, 6})]
    ours = trained(Defended(defenses.krum.Krum(3), **KEYS), liars)
    theirs = trained(Krum(num_malicious_nodes=3, **KEYS), liars)
    np.testing.assert_allclose(_vector(ours[0]), _vector(theirs[0]), atol=1e-5)
    assert ours[1][-1] > 0.75


def test_without_a_rule_the_attack_wins():
    liars = [Malicious(SignFlip(scale=5.0), members={0, 3, 6})]
    assert trained(FedAvg(**KEYS), liars)[1][-1] < 0.3


def test_the_lines_of_the_readme_run_as_they_stand():
    """What they make is the example's own: the same choices, round by round."""
    text = (Path(example.__file__).parents[2] / "README.md").read_text()
    block = text.split("## For Flower users")[1].split("```python\n")[1].split("```")[0]
    assert sum(bool(line) for line in block.splitlines()) == 6
    made = {}
    exec(block, made)
    trained(made["strategy"], made["mods"], rounds=2)
    ours = Defended(defenses.krum.Krum(3), **KEYS)
    trained(ours, [Malicious(SignFlip(scale=5.0), members={0, 3, 6})], rounds=2)
    chosen = [decision["accepted"] for decision in made["strategy"].decisions]
    assert chosen == [decision["accepted"] for decision in ours.decisions] and len(chosen) == 2


def test_the_app_names_what_exists():
    folder = Path(example.__file__).parent
    told = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    for target in told["components"].values():
        module, _, name = target.partition(":")
        assert getattr(import_module(f"experiments.flower_example.{module}"), name) is not None
