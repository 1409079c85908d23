"""scenario=group_rewards: one reward for groups of opposed values, from words to a table's row."""

import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from experiments.build import build
from fedalign.core.errors import ConfigError
from tests.experiments.test_alignment_cell import _own_cache, config, play, rounds  # noqa: F401

WORDS = ("scenario=group_rewards", "objective=rloo", "data.annotator.heterogeneity=1.0", "rounds=1",
         "clients=2", "local_steps=2", "workload.warmup_steps=0", "data.local_evaluation=16",
         "objective.answers=2")  # fmt: skip


def test_a_run_says_what_every_group_gains(tmp_path):
    """Least over clients, one of each mind, under every rule; the same words, the same digest."""
    digests = {}
    for rule in ("own", "min", "adaptive"):
        path = play(tmp_path, *WORDS, f"objective.groups={rule}")
        (row,) = rounds(path)
        assert float(row["gold_gain_worst"]) <= float(row["gold_gain_local"])
        digests[rule] = (path / "digest.txt").read_text()
    assert len(set(digests.values())) == 3
    again = play(tmp_path / "again", *WORDS, "objective.groups=min")
    assert (again / "digest.txt").read_text() == digests["min"]


def test_groups_and_a_learned_reward_are_refused_before_training():
    asked = config(*WORDS, "objective.groups=min", "objective.reward_model=outputs/reward_models")
    with pytest.raises(ConfigError, match="a learned reward_model has no groups: take groups=own"):
        build(asked["objective"])
