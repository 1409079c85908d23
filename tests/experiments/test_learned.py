"""Reward models of finished runs, climbed by online objectives."""

import csv
import json

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from experiments import compose, federation_cell
from experiments.build import build
from experiments.cells.best_of_n import best_of_n
from experiments.learned import learned
from fedalign.core import memory
from fedalign.core.errors import ConfigError
from tests.experiments.test_alignment_cell import SMALL, _own_cache, config, play  # noqa: F401

REWARD = ("scenario=reward_models", "objective=reward_bradley_terry", "data.answers=demonstrator",
          "clients=2", "local_steps=15", "workload.lr=0.01")  # fmt: skip
ONLINE = ("scenario=rlhf", "data.annotator.filler_bias=0.0", "workload.warmup_steps=0",
          "local_steps=2", "rounds=1", "objective.answers=2")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a reward model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return play(tmp_path_factory.mktemp("rewards"), *REWARD)


def test_a_learned_reward_orders_answers_as_its_run_did(run):
    """On the run's own test pairs it has their accuracy, their gold mean and their gold spread."""
    asked = config(*ONLINE, "objective=rloo", f"objective.reward_model={run}")
    found = {}

    def opened(theirs):
        found["made"] = federation_cell.client_work({**theirs}).workload
        return found["made"]

    reward = learned(build(asked["objective"]), asked, opened).reward
    made = found["made"]
    pairs = made._held[-2, False]
    prompts = pairs.chosen.prompts()
    worth = [reward(prompts, side.completions()) for side in (pairs.chosen, pairs.rejected)]
    gap, gold = worth[0] - worth[1], (pairs.scores[:, 0] - pairs.scores[:, 1]).numpy()
    agree = ((gap * gold > 0) + 0.5 * ((gap == 0) | (gold == 0))).mean()
    last = list(csv.DictReader((run / "rounds.csv").open()))[-1]
    assert agree == pytest.approx(float(last["rm_accuracy"]), abs=1e-9)
    scores = pairs.scores.double()
    both = np.concatenate(worth)
    assert both.mean() == pytest.approx(float(scores.mean()), abs=1e-5)
    assert both.std(ddof=1) == pytest.approx(float(scores.std()), rel=1e-5)


@pytest.mark.parametrize("objective", [
    pytest.param("rloo", marks=pytest.mark.slow), pytest.param("ppo", marks=pytest.mark.slow),
    "rejection_sampling",
])  # fmt: skip
def test_online_objectives_climb_it_and_report_it(run, tmp_path, objective):
    """Another reward gives another model, and what the learned one thinks is in the table."""
    words = [*ONLINE, f"objective={objective}"]
    if objective == "ppo":
        words.append("objective.passes=1")
    plain = play(tmp_path, *words)
    with_model = play(tmp_path, *words, f"objective.reward_model={run}")
    models = [memory.read(path / "payload.safetensors") for path in (plain, with_model)]
    assert any(not torch.equal(models[0][k], models[1][k]) for k in models[0])
    (row,) = csv.DictReader((with_model / "rounds.csv").open())
    assert np.isfinite(float(row["proxy_reward"]))
    first = (with_model / "events.jsonl").read_text().splitlines()[0]
    assert "reward model RewardBradleyTerry (plain), seed 0, " in first
    assert "proxy_reward" not in next(csv.DictReader((plain / "rounds.csv").open()))


def test_the_best_of_n_may_be_what_a_learned_reward_likes(run, tmp_path):
    """Its gold reward then lies at or below that of the best by the truth."""
    shape = [word for word in SMALL if word.startswith(("data.", "model."))]
    gold = {}
    for name, more in (("learned", [f"objective.reward_model={run}"]), ("truth", [])):
        words = ["scenario=best_of_n", *shape, "data.annotator.filler_bias=0.0", "most=8", *more]
        (cell,) = compose.study([*words, "seed=0"]).cells
        best_of_n(cell.config, tmp_path / name, {})
        rows = json.loads((tmp_path / name / "rows.json").read_text())
        gold[name] = [row["gold reward"] for row in rows if "n" in row]
        assert (name == "learned") == rows[0]["chosen by"].startswith("reward model")
    assert gold["learned"][0] == pytest.approx(gold["truth"][0])
    assert gold["learned"][-1] < gold["truth"][-1]


def test_what_is_no_reward_model_is_refused(run, tmp_path):
    """Nothing there, a policy's run, several runs, another world."""
    refused = {
        tmp_path / "none": "holds no finished run",
        play(tmp_path / "policy", "rounds=1"): "is a run of Dpo, seed 0, no reward model",
    }
    two = tmp_path / "two"
    for name in "ab":
        (two / name).mkdir(parents=True)
        for file in ("config.yaml", "digest.txt"):
            (two / name / file).write_bytes((run / file).read_bytes())
    refused[two] = r"holds 2 runs, give .* \(a: RewardBradleyTerry \(plain\), seed 0; b: "
    for folder, sentence in refused.items():
        with pytest.raises(ConfigError, match=sentence):
            play(tmp_path, *ONLINE, "objective=rloo", f"objective.reward_model={folder}")
    with pytest.raises(ConfigError, match="the two need the same words"):
        play(tmp_path, *ONLINE, "objective=rloo", f"objective.reward_model={run}",
             "data.world.entities=5")  # fmt: skip
