"""Personal algorithms from words on the command line to a verified folder, on a tiny world."""

import json

import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from experiments import compose, federation_cell, preflight
from experiments.verify import verify
from fedalign.core.errors import ConfigError
from tests.experiments.test_alignment_cell import SMALL, _own_cache, play, rounds  # noqa: F401

OPPOSED = ("clients=4", "data.annotator.heterogeneity=1.0", "data.local_evaluation=6", "data.pairs=80")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm",
    ["dual", "personal_head", "steer", "local", "centralised", "posthoc_realign"],
)
def test_each_runs_is_judged_by_its_clients_and_verifies(tmp_path, algorithm):
    path = play(tmp_path, f"algorithm={algorithm}", *OPPOSED)
    first, last = rounds(path)
    for row in (first, last):
        assert float(row["gold_gain_worst"]) <= float(row["gold_gain_local"])
        assert 0.25 <= float(row["jain_local"]) <= 1 and 0 <= float(row["win_rate_local"]) <= 1
    assert verify(path).recomputed == 1


def test_clients_of_clusters_answer_for_one_model_after_the_first_round(tmp_path):
    path = play(tmp_path, "algorithm=cluster", *OPPOSED, "defense=norm_filter")
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    played = [e for e in (event.get("body", event) for event in events) if e["event"] == "round"]
    sizes = [body["notes"]["cluster_sizes"] for body in played]
    assert all(sum(size.values()) == 4 for size in sizes)
    assert all(0.25 <= float(row["jain_local"]) <= 1 for row in rounds(path))
    assert verify(path).recomputed == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("algorithm=cluster", "defense=zeno"), "evaluates whole models"),
        (("algorithm=cluster", "topology=edges", "topology.edges=2"), "topology=flat"),
        (("algorithm=dual", "peft=houlsby"), "needs peft=lora"),
        (("algorithm=posthoc_realign", "objective=sft"), "take objective=dpo"),
        (("attack=attribute_poisoning",), "objective=reward_regression"),
    ],
)
def test_what_cannot_run_is_refused_before_training(words, sentence):
    asked = {word.partition("=")[0] for word in words}
    drop = {"peft.rank=2"} if "peft" in asked else set()
    small = [w for w in SMALL if w.partition("=")[0] not in asked and w not in drop]
    study = compose.study([*small, *words, "byzantine_fraction=0.34"])
    with pytest.raises(ConfigError, match=sentence):
        preflight.check(study, None)


def test_classifiers_have_no_clusters():
    study = compose.study(["scenario=single", "algorithm=cluster", "rounds=1"])
    with pytest.raises(ConfigError, match="workload=alignment"):
        federation_cell.client_work(study.cells[0].config)
