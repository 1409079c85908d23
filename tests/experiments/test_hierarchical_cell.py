"""Runs with edges: same seed, same digest, whatever the runtime; resumed; verified; refused."""

import pytest
import torch

from experiments import compose, federation_cell, verify
from fedalign.core import memory
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.core.log import read
from tests.experiments.test_federation_cell import play

EDGES = ["topology=edges", "topology.edges=2", "defense=hieavg", "global_defense=hieavg",
         "stragglers=temporary", "stragglers.level=both", "stragglers.share=0.3",
         "stragglers.late=true", "clock=wireless"]  # fmt: skip


def test_a_run_with_edges_and_late_rows_resumes_to_the_same_digest(tmp_path):
    """Stopped after round 3 of 4, where histories and late rows are alive at both levels."""
    whole = play(tmp_path / "whole", *EDGES)
    config = compose.study(["clients=8", "rounds=4", "data.limit=200", "byzantine_fraction=0.25",
                            "block=3", "keep=last", *EDGES]).cells[0].config  # fmt: skip
    broken, played = {**config, "checkpoint_s": 0}, federation_cell.global_round

    def stops(parts, state):
        if state.round == 3:
            raise KeyboardInterrupt
        return played(parts, state)

    federation_cell.global_round = stops
    try:
        with pytest.raises(KeyboardInterrupt):
            federation_cell.play(broken, tmp_path / "broken", {"source": "test"})
    finally:
        federation_cell.global_round = played
    federation_cell.play(broken, tmp_path / "broken", {"source": "test"})
    assert (tmp_path / "broken/digest.txt").read_text().strip() == whole
    assert verify.verify(tmp_path / "broken").rounds == 4


@pytest.mark.slow
def test_processes_play_the_same_edges(tmp_path):
    inline = play(tmp_path / "inline", *EDGES)
    assert inline == play(tmp_path / "two", *EDGES, "runtime=processes", "runtime.processes=2")


@pytest.mark.parametrize(
    "words",
    [
        EDGES,
        ["topology=edges", "topology.edges=1", "defense=hieavg", "stragglers=bursty"],
        ["topology=edges", "topology.edges=2", "defense=hieavg+multi_krum", "attack=sign_flip",
         "clients=14", "data.limit=280", "global_defense=median", "byzantine_fraction=0.1"],
    ],
    ids=["late at both levels", "one edge", "vetoes"],
)  # fmt: skip
def test_aggregates_of_edges_are_computed_again_and_a_changed_row_is_found(tmp_path, words):
    play(tmp_path / "run", *words)
    assert verify.verify(tmp_path).recomputed == 1
    path = tmp_path / "run/kept/round_00004.safetensors"
    kept = memory.read(path)
    group = kept["groups"].get("global", kept["groups"]["0"])
    group["rows"][0, 0] += 1e-2
    memory.write(path, kept)
    with pytest.raises(IntegrityError, match="is not what the rule gives"):
        verify.verify(tmp_path)


def test_the_log_tells_who_was_missing_and_what_was_put_in_their_place(tmp_path):
    play(tmp_path, *EDGES[:-2], "stragglers=permanent")
    last = [body for body, _ in read(tmp_path / "events.jsonl")][-2]
    told = {**last["edges"], "top": last["meeting"]}
    assert any(group["missing"] for group in told.values())
    for group in told.values():
        assert {int(u) for u in group["notes"]["estimated"]} == set(group["missing"])


def test_the_same_rule_at_both_levels_takes_its_parameters_along():
    study = compose.study(["defense=hieavg,krum", "global_defense=same", "defense.damp=0.25"])
    for cell in study.cells:
        assert cell.config["global_defense"] == cell.config["defense"]
    assert study.cells[0].config["global_defense"]["damp"] == 0.25


REFUSED = [
    (["topology=edges", "topology.edges=9"], "Edge 8 has no devices"),
    (
        ["topology=edges", "topology.edge_rounds=0"],
        "edge_rounds must be a whole number of 1 or more",
    ),
    (["stragglers=temporary", "stragglers.level=edge"], "needs edge servers that can miss a round"),
    (
        ["topology=edges", "topology.edges=2", "global_defense=krum"],
        "global_defense with f=0 needs",
    ),
    (["topology=edges", "topology.edges=4", "defense=krum"], "needs at least"),
    (
        ["topology=edges", "topology.edges=2", "incentive=uniform_pay"],
        "take topology.edge_rounds=1",
    ),
    (["defense=hieavg", "defense.cold_boot_rounds=4"], "is never over in 4 rounds"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED)
def test_what_is_refused_before_any_training(words, says):
    small = ["clients=8", "rounds=4", "data.limit=200", "byzantine_fraction=0.25"]
    with pytest.raises(ConfigError, match=says):
        federation_cell.validate(compose.study([*small, *words]).cells[0].config)


def test_a_flat_run_remembers_nothing_of_edges(tmp_path):
    play(tmp_path)
    event = [body for body, _ in read(tmp_path / "events.jsonl")][1]
    assert "edges" not in event and event["missing"] == [] and event["joules"] == 0
    assert torch.equal(
        memory.read(tmp_path / "kept/round_00004.safetensors")["clients"], torch.arange(8)
    )
