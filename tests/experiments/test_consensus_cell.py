"""Runs whose edge servers agree: resumed to the same head, replayed, every flipped byte named."""

import csv
import json

import numpy as np
import pytest

from experiments import chain_cli, compose, federation_cell, plan, verify
from fedalign.core import memory
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.core.log import read
from tests.experiments.test_federation_cell import config, play

POFEL = ["topology=edges", "topology.edges=4", "topology.edge_rounds=1", "consensus=pofel_raft"]


def told(folder):
    return [body for body, _ in read(folder / "events.jsonl")]


def chain_of(folder):
    return [event["chain"] for event in told(folder) if "chain" in event]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of four rounds whose inputs are all kept, and its digest."""
    folder = tmp_path_factory.mktemp("sealed") / "run"
    return folder, play(folder, *POFEL, "keep=all")


def test_every_round_is_sealed_and_verify_replays_all_of_it(run):
    folder, _ = run
    blocks = chain_of(folder)
    assert [block["height"] for block in blocks] == [1, 2, 3, 4]
    assert [b["parent"] for b in blocks[1:]] == [b["hash"] for b in blocks[:-1]]
    account = verify.verify(folder)
    assert (account.blocks, account.recomputed) == (4, 4)
    clock = [event["clock_s"] for event in told(folder)[1:-1]]
    assert all(later > before for before, later in zip([0.0, *clock], clock, strict=False))


def test_thirty_flipped_bytes_are_all_named(run):
    """In blocks, kept inputs, log and tables; nothing that was changed passes."""
    folder, _ = run
    rng = np.random.default_rng(0)
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and "environment" not in f.name]
    files = [f for f in files if f.suffix in (".block", ".jsonl", ".csv", ".txt", ".yaml")]
    for number in range(32):
        path = files[number % len(files)]
        data = path.read_bytes()
        place = int(rng.integers(len(data)))
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(IntegrityError, match=str(folder)):
            verify.verify(folder)
        path.write_bytes(data)
    assert verify.verify(folder).blocks == 4


def test_a_kept_edge_model_that_was_changed_is_not_the_sealed_one(run):
    folder, _ = run
    path = folder / "kept/round_00002.safetensors"
    before = path.read_bytes()
    kept = memory.read(path)
    kept["groups"]["global"]["rows"][1, 5] += 0.25
    memory.write(path, kept)
    with pytest.raises(IntegrityError, match="Height 2: the kept rows are not the sealed ones"):
        verify.verify(folder)
    path.write_bytes(before)


def test_a_stopped_run_goes_on_to_the_same_head(run, tmp_path):
    """It breaks in round 3, whose block is final already: made again, it is the same block."""
    folder, digest = run
    broken = {**config(*POFEL, "keep=all"), "checkpoint_s": 0}
    played = federation_cell.global_round

    def stops(parts, state):
        result = played(parts, state)
        if state.round == 2:
            raise KeyboardInterrupt
        return result

    federation_cell.global_round = stops
    try:
        with pytest.raises(KeyboardInterrupt):
            federation_cell.play(broken, tmp_path / "run", {"source": "test"})
    finally:
        federation_cell.global_round = played
    assert len(list((tmp_path / "run/chain/blocks").glob("*.block"))) == 3
    federation_cell.play(broken, tmp_path / "run", {"source": "test"})
    assert (tmp_path / "run/digest.txt").read_text().strip() == digest
    assert chain_of(tmp_path / "run")[-1]["hash"] == chain_of(folder)[-1]["hash"]
    assert told(tmp_path / "run")[-1]["closing"] == told(folder)[-1]["closing"]
    assert verify.verify(tmp_path / "run").blocks == 4


def test_who_orders_entries_changes_no_model(run, tmp_path):
    """Raft alone, without votes, comes to the same models: the rule is the same integers."""
    _, digest = run
    assert digest == play(tmp_path / "raft", *POFEL, "consensus=raft")


@pytest.mark.slow
def test_processes_seal_the_same_head(run, tmp_path):
    folder, digest = run
    assert digest == play(tmp_path / "run", *POFEL, "runtime=processes", "runtime.processes=2")
    assert chain_of(tmp_path / "run")[-1]["hash"] == chain_of(folder)[-1]["hash"]


def test_blocks_say_how_absent_servers_were_estimated(tmp_path, capsys):
    """The same misses, confidences and weights as the rule's notes in the log."""
    late = ["global_defense=hieavg", "global_defense.cold_boot_rounds=2", "stragglers=permanent",
            "stragglers.level=edge", "stragglers.share=0.25", "rounds=4"]  # fmt: skip
    play(tmp_path / "run", *POFEL, *late)
    assert chain_cli.main(["show", "4", "--dir", str(tmp_path / "run")]) == 0
    block = json.loads(capsys.readouterr().out)
    [(who, estimate)] = block["standing"]["estimated"].items()
    assert block["standing"]["status"] == "ok" and who not in block["samples"]
    assert estimate["misses"] >= 1
    assert estimate["confidence_ppm"] == round(1e6 * max(0.9 ** estimate["misses"], 0.5))
    assert verify.verify(tmp_path / "run").blocks == 4
    assert chain_cli.main(["show", "9", "--dir", str(tmp_path / "run")]) == 1


def test_an_edge_that_attacks_is_a_liar_of_the_chain(tmp_path):
    play(tmp_path / "run", *POFEL, "attack=faker_norm", "attack_level=edge")
    events = told(tmp_path / "run")
    assert len(events[1]["chain"]["liars"]) == 1 and events[1]["attacked"]
    assert events[1]["counts"]["malicious_sent"] == 1 and not events[1]["attackers"]
    assert verify.verify(tmp_path / "run").blocks == 4


def test_a_named_fault_lies_in_as_many_servers_as_are_tolerated():
    chain = plan.consensus(config(*POFEL, "fault=withhold"))
    (group,) = chain.faults
    assert len(group.servers) == 1 and type(group.fault).__name__ == "Withhold"
    two = plan.consensus(config(*POFEL, "topology.edges=7", "fault=bribe", "faulty_servers=2"))
    assert len(two.faults[0].servers) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["consensus=pofel_raft"], "topology.edges=1"),
        ([*POFEL, "topology.edges=3"], "needs 4 servers or more"),
        ([*POFEL, "consensus.servers=5"], "consensus.servers=5 and topology.edges=4"),
        (["fault=bribe"], "A fault lies in a server of a chain"),
        ([*POFEL, "fault=bribe", "faulty_servers=4"], "faulty_servers is 1 .. 3"),
        (["attack_level=edge", "attack=ipm"], "needs several edge servers"),
        ([*POFEL, "attack_level=edge", "attack=label_flip"], "hold no data to poison"),
        ([*POFEL, "attack_level=server"], "attack_level is client or edge"),
    ],
)
def test_what_no_chain_can_do_is_refused_in_a_sentence(words, reason):
    cell = dict(compose.study(["clients=8", "rounds=1", "data.limit=200", *words]).cells[0].config)
    with pytest.raises(ConfigError, match=reason):
        federation_cell.validate(cell)


def test_who_mines_pays_for_the_time_it_takes(tmp_path):
    """All cores hash from the first entry to the block: 8 W each, for as long as consensus lasts."""
    play(tmp_path / "run", *POFEL, "consensus=pow", "rounds=1")
    row = next(csv.DictReader((tmp_path / "run/rounds.csv").open()))
    mined = float(row["consensus_joules"]) - 4 * 8.0 * float(row["consensus_s"])
    assert float(row["consensus_s"]) > 10 and 0 < mined < 8.0 * 10
    assert chain_of(tmp_path / "run")[0]["miners"] == 4
