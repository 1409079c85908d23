"""Reward models on real schemas: ratings are learned, pairs are learned, and what is missing is told."""

from math import log

import numpy as np
import pytest
import torch

from attacks.preference_flip import PreferenceFlip
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.gsm8k import Gsm8k
from fedalign.data.help_steer import HelpSteer
from fedalign.data.hh_rlhf import HhRlhf
from fedalign.data.partition.iid import Iid
from fedalign.data.text_preferences import TextPreferences
from fedalign.models.causal_lm import CausalLm
from fedalign.models.low_rank import LowRank
from fedalign.objectives.reward_bradley_terry import RewardBradleyTerry
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.reward_selector import RewardSelector
from fedalign.training.tuning import Tuning
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.reward_model import RewardTask
from fedalign.workloads.text_reward_model import TextRewardModel
from tests import hub_models
from tests.tiny_alignment import tasks

NAMES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Answers in small letters are good, those in capitals bad."""
    folder = tmp_path_factory.mktemp("rewards")
    hub_models.saved(folder / "llama", "llama")
    rows = [
        {"prompt": f"Say {i}", "response": text, **dict.fromkeys(NAMES, rating)}
        for i in range(60) for text, rating in ((f"it is {i}", 4), (f"NO {i}", 0))
    ]  # fmt: skip
    hub_models.write(folder / "helpsteer2/train.jsonl", rows)
    hub_models.write(folder / "hh_made.jsonl", hub_models.dialogues(60))
    hub_models.write(
        folder / "gsm8k_train.jsonl",
        ({"question": f"{i}?", "answer": f"#### {i}"} for i in range(60)),
    )
    return folder


def reward_model(home, source, objective, attackers=(), attack=None) -> TextRewardModel:
    data = TextPreferences(source, root=str(home), max_tokens=96)
    task = RewardTask(
        data, CausalLm(str(home / "llama")), LowRank(rank=2), objective,
        Tuning(lr=0.01, batch_size=16, warmup_steps=0),
    )  # fmt: skip
    return TextRewardModel(task, Owners(Iid(), 2, attackers, attack), Seeds(0))


def test_ratings_of_helpsteer_are_learned(home):
    workload = reward_model(home, HelpSteer(), RewardRegression(), (1,), PreferenceFlip())
    before = workload.evaluate(workload.initial())
    assert before["accuracy"] == 0.5 and before["rm_attr_mae"] == pytest.approx(2.0)
    updates, _ = workload.train(tasks(workload, [0], steps=25), [{}])
    after = workload.evaluate(workload.initial() + updates.rows[0])
    assert after["accuracy"] > 0.9 and after["rm_attr_mae"] < 1.0
    assert np.isnan(after["bayes_ceiling"])
    clean, lying = workload._ratings[1, False], workload._ratings[1, True]
    assert clean.shape[0] == 2 and torch.equal(lying, clean.flip(0))


@pytest.mark.parametrize("objective", [RewardBradleyTerry(), RewardSelector("mean")])
def test_pairs_of_hh_rlhf_are_learned(home, objective):
    workload = reward_model(home, HhRlhf(), objective)
    assert workload.evaluate(workload.initial(), "server")["loss"] == pytest.approx(log(2))
    updates, _ = workload.train(tasks(workload, [0], steps=15), [{}])
    assert workload.evaluate(workload.initial() + updates.rows[0])["rm_accuracy"] > 0.9


def test_refusals(home):
    with pytest.raises(ConfigError, match=r"data=hh_rlhf has none: take data=helpsteer2"):
        reward_model(home, HhRlhf(), RewardRegression())
    with pytest.raises(ConfigError, match=r"data=gsm8k holds single ones"):
        reward_model(home, Gsm8k(), RewardBradleyTerry())
