"""FedBiscuit in whole runs: groups in the memory of the algorithm, one digest, one voice."""

import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

import torch

from experiments import federation_cell
from experiments.learned import learned
from experiments.verify import verify
from experiments.workload_cell import divided, workload
from fedalign.algorithms.fed_biscuit import FedBiscuit
from fedalign.core.contracts import State
from fedalign.core.errors import ConfigError
from fedalign.federation.grouping import regrouped
from fedalign.objectives.rloo import Rloo
from tests.experiments.test_alignment_cell import (  # noqa: F401
    _own_cache,
    config,
    play,
    rounds,
    taken_up,
)

VOTERS = [
    "scenario=selectors", "objective=reward_selector", "algorithm=fed_biscuit", "algorithm.count=2",
    "data.annotator.heterogeneity=1.0", "data.local_evaluation=8", "peft.words=[]", "rounds=4",
    "clients=4", "block=2", "objective.pool=mean",
]  # fmt: skip


def test_groups_change_votes_are_reported_and_the_run_verifies(tmp_path):
    words = [*VOTERS, "algorithm.count=3"]
    path = play(tmp_path, *words)
    last = rounds(path)[-1]
    accuracies = ("rm_accuracy", "rm_accuracy_each", "rm_accuracy_local")
    assert all(0 <= float(last[name]) <= 1 for name in accuracies)
    assert verify(path).rounds == 4
    found = learned(Rloo(reward_model=str(path)), config(*words), reopened)
    assert found.told.startswith("3 votes of reward model RewardSelector")
    worth = found.reward([[1, 2]] * 3, [[3, 4], [5], [6, 7, 8]])
    assert worth.sum() == pytest.approx(0, abs=1e-9) and worth.any()


def reopened(config):
    return divided(workload(config, (), None, "cpu"), FedBiscuit(count=3))


def test_another_runtime_and_a_stop_between_leave_the_digest(tmp_path, monkeypatch):
    """Clients crash on purpose too; groups are drawn from all who tell."""
    words = [*VOTERS, "failure_rate=0.2", "algorithm.regroup=2"]
    whole = (play(tmp_path / "whole", *words) / "digest.txt").read_text()
    flower = [*words, "runtime=flower", "runtime.nodes=2"]
    assert (play(tmp_path / "flower", *flower) / "digest.txt").read_text() == whole
    path, played = taken_up(tmp_path / "broken", monkeypatch, 4, *words)
    assert played == [4]
    assert (path / "digest.txt").read_text() == whole


def test_groups_are_drawn_after_the_warm_up_from_every_clients_losses(tmp_path):
    made = federation_cell.federation(dict(config(*VOTERS, "participation=0.5")))
    state = State(1, made.workload.initial(), None, 0.0, {"algorithm": {}})
    assert regrouped(made, state) is state
    size = made.workload.layout.size // 2
    other = torch.randn(size, generator=torch.Generator().manual_seed(0))
    model = torch.cat([state.model[:size], state.model[:size] + 0.05 * other])
    groups = regrouped(made, State(2, model, None, 0.0, {"algorithm": {}})).memory["algorithm"]
    assert sorted(groups["groups"].tolist()) == [0, 0, 1, 1]  # all four, though two take part


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match=r"warms up 3 models for 2 rounds each, but rounds=4"):
        federation_cell.validate(config(*VOTERS, "algorithm.count=3", "algorithm.warmup=2"))


@pytest.mark.parametrize("algorithm", ["centralised", "steer", "dual", "personal_head"])
def test_algorithms_of_models_that_answer_are_refused_for_models_that_judge(algorithm):
    words = [word for word in VOTERS if not word.startswith("algorithm")]
    with pytest.raises(ConfigError, match=r"trains one that judges: take algorithm=fedavg, local"):
        federation_cell.client_work(config(*words, f"algorithm={algorithm}"))
