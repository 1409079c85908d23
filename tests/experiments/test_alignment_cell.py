"""A federated alignment run from words on the command line to a verified folder."""

import csv
import json
from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from experiments import compose, federation_cell
from experiments.results import load
from experiments.spoken import spoken
from experiments.verify import verify
from fedalign.core.errors import ConfigError
from tests import tiny_alignment

SMALL = [
    "scenario=dpo", "objective=dpo", "data.annotator.error=0.0", "seed=0", "rounds=2",
    "local_steps=3", "clients=3", "data.world.entities=4", "data.world.attributes=3",
    "data.world.values=4", "data.demonstrations=800", "data.pairs=60", "data.evaluation=32",
    "data.held_out=24", "data.root_samples=12", "model.vocabulary=96", "model.hidden=32",
    "model.layers=2", "model.heads=2", "model.mlp=64", "model.teach_steps=60",
    "model.teach_batch=32", "peft.rank=2", "workload.batch_size=8", "workload.lr=0.005",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch):
    monkeypatch.setenv("FEDALIGN_CACHE", str(tiny_alignment.folder()))


def cell(*words):
    asked = {word.partition("=")[0] for word in words}
    small = [word for word in SMALL if word.partition("=")[0] not in asked]
    return compose.study([*small, *words]).cells[0]


def config(*words):
    return cell(*words).config


def play(folder, *words, **more):
    made = cell(*words)
    path = folder / made.run_id
    federation_cell.play({**made.config, "keep": "last", **more}, path, {})
    return path


def taken_up(folder, monkeypatch, last, *words):
    """A run that stops before its round `last`, and is taken up again: its folder, and the rounds
    played by then."""
    global_round, played = federation_cell.global_round, []

    def stops(parts, state):
        if state.round == last - 1:
            raise KeyboardInterrupt
        return global_round(parts, state)

    def counts(parts, state):
        played.append(state.round + 1)
        return global_round(parts, state)

    with monkeypatch.context() as patch:
        patch.setattr(federation_cell, "global_round", stops)
        with pytest.raises(KeyboardInterrupt):
            play(folder, *words, checkpoint_s=0)
        patch.setattr(federation_cell, "global_round", counts)
        return play(folder, *words, checkpoint_s=0), played


def rounds(path):
    return list(csv.DictReader((path / "rounds.csv").open()))


def test_a_run_reports_rewards_keeps_text_and_verifies(tmp_path):
    path = play(tmp_path)
    first, last = rounds(path)
    assert float(last["kl_ref_k3"]) > 0 < float(first["kl_ref_k3"])
    assert float(last["win_low"]) <= float(last["win_rate"]) <= float(last["win_high"])
    spoke = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    assert len(spoke) == 8 and {"prompt", "before", "after", "gold_after"} <= set(spoke[0])
    account = verify(path)
    assert (account.rounds, account.recomputed) == (2, 1)


@pytest.mark.slow
def test_the_same_seed_has_the_same_digest_whatever_the_cache_holds(tmp_path, monkeypatch):
    first = (play(tmp_path) / "digest.txt").read_text()
    with monkeypatch.context() as patch:
        patch.setenv("FEDALIGN_CACHE", str(tmp_path / "cold"))
        assert (play(tmp_path) / "digest.txt").read_text() == first
    assert (play(tmp_path, "seed=1") / "digest.txt").read_text() != first


def test_faker_against_krum_on_low_rank_adapters(tmp_path):
    """What the Faker study does to classifiers runs unchanged on adapters."""
    crowd = ("clients=6", "byzantine_fraction=0.17", "data.pairs=90")
    path = play(tmp_path, "attack=faker_norm", "defense=krum", *crowd)
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    bodies = [event.get("body", event) for event in events]
    played = [body for body in bodies if body.get("event") == "round"]
    assert len(played) == 2 and all(body["attacked"] for body in played)
    assert all(sum(body["accepted"]) == 1 for body in played)
    assert verify(path).recomputed == 1


def test_what_averaging_factors_misses_is_reported_and_avoided(tmp_path):
    """The mean of factors is not the mean of products: plain LoRA reports by how much, the SVD of
    the products gives another model, and B alone has nothing to miss."""
    plain, merged = (play(tmp_path, f"defense={rule}") for rule in ("fedavg", "product_svd+fedavg"))
    missed = [float(row["lora_cross_term"]) for row in rounds(plain)]
    assert 0.001 < missed[0] < 1 and missed[1] > 0
    first, last = rounds(merged)
    assert float(first["lora_cross_term"]) == pytest.approx(missed[0], rel=1e-6)  # the same rows
    assert (
        last["gold_reward"] != rounds(plain)[-1]["gold_reward"]
        or last["loss"] != rounds(plain)[-1]["loss"]
    )
    assert verify(merged).recomputed == 1
    alone = play(tmp_path, "peft=ffa_lora")
    assert "lora_cross_term" not in rounds(alone)[0]
    sent, whole = (float(rounds(path)[0]["payload_bytes"]) for path in (alone, plain))
    assert 0 < sent < whole == float(rounds(alone)[0]["lora_bytes"])


def test_flipped_preferences_turn_the_implicit_reward(tmp_path):
    """Three of four clients lie: accuracy on held-out pairs falls, and the loss rises."""
    keys = (
        "rounds=1", "local_steps=16", "workload.warmup_steps=0", "clients=4", "data.pairs=120",
        "byzantine_fraction=0.75", "data.answers=demonstrator", "data.held_out=80",
    )  # fmt: skip
    honest = rounds(play(tmp_path, *keys))
    lying = rounds(play(tmp_path, *keys, "attack=preference_flip"))
    assert float(lying[-1]["accuracy"]) < float(honest[-1]["accuracy"]) - 0.05
    assert float(lying[-1]["loss"]) > float(honest[-1]["loss"])


def test_a_backdoors_success_is_reported(tmp_path):
    path = play(tmp_path, "attack=preference_backdoor", "byzantine_fraction=0.34", "rounds=1")
    last = rounds(path)[-1]
    assert (
        0.0 <= float(last["attack_success"]) <= 1.0 and 0.0 <= float(last["success_clean"]) <= 1.0
    )


def test_the_report_shows_text_before_and_after(tmp_path):
    path = play(tmp_path, "rounds=1")
    cell = {"run_id": path.name, "axes": {"objective": "dpo"}, "seed": 0, "status": "done"}
    index = {"name": "dpo", "axes": {"objective": ["dpo"]}, "cells": [cell]}
    (tmp_path / "study.json").write_text(json.dumps(index))
    text = spoken(load(tmp_path))
    assert "objective = dpo" in text and text.count("| `<bos> <usr> e") == 5
    study = load(tmp_path)
    (path / "samples.jsonl").write_text("{cut off")
    assert spoken(replace(study, cells=study.cells)) == ""


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        play(tmp_path, precision="float16")
    with pytest.raises(ConfigError, match="take attack=preference_flip"):
        play(tmp_path, "attack=label_flip", "byzantine_fraction=0.34")


@pytest.mark.parametrize("words", [
    ["objective=beta_dpo", "algorithm=client_momentum"],
    pytest.param(["objective=dpo", "algorithm=dual"], marks=pytest.mark.slow),
])  # fmt: skip
def test_a_run_stopped_anywhere_resumes_to_the_same_digest(tmp_path, monkeypatch, words):
    """What an objective remembers and parts that stay at clients come back; only the last of three
    rounds is played again."""
    words = [*words, "rounds=3", "local_steps=2"]
    whole = (play(tmp_path / "whole", *words) / "digest.txt").read_text()
    path, played = taken_up(tmp_path / "broken", monkeypatch, 3, *words)
    assert played == [3]
    assert (path / "digest.txt").read_text() == whole


@pytest.mark.parametrize("objective", ["rloo", "sft", "spin", "reward_selector"])
def test_a_reference_of_the_round_start_is_for_losses_against_one(objective):
    with pytest.raises(
        ConfigError, match=r"workload\.reference=round_start is for losses on pairs"
    ):
        words = [f"objective={objective}", "workload.reference=round_start"]
        federation_cell.client_work(config(*words))
