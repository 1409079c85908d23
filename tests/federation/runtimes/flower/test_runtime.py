"""Flower's messages carry the same run: same seed, same digest; memories stay at their node."""

import dataclasses
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from experiments import compose, federation_cell
from fedalign.core.contracts import ClientTask, Updates, Work
from fedalign.core.errors import ConfigError, IntegrityError, QuorumLostError
from fedalign.core.log import read
from fedalign.federation.runtimes.client_work import Site
from fedalign.federation.runtimes.flower import apps, wire
from fedalign.federation.runtimes.flower.joined import joined
from fedalign.federation.runtimes.flower.runtime import Flower
from fedalign.federation.runtimes.flower.shelf import Shelf
from tests.worlds import federation, tasks

SMALL = ["clients=8", "rounds=4", "data.limit=200", "byzantine_fraction=0.25", "block=3"]


def config(*words):
    return dict(compose.study([*SMALL, "keep=last", *words]).cells[0].config)


def play(folder, *words):
    federation_cell.play(config(*words), folder, {"source": "test"})
    return (folder / "digest.txt").read_text().strip()


CASES = {
    "an attack on a rule": ["attack=faker_norm", "defense=krum"],
    "memories, sampling, failures": ["algorithm=client_momentum", "attack=dba", "batching=loop",
                                     "participation=0.75", "failure_rate=0.1"],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_and_three_nodes_give_the_digest_of_inline(tmp_path, case):
    words = CASES[case]
    whole = play(tmp_path / "inline", *words)
    assert whole == play(tmp_path / "one", *words, "runtime=flower")
    assert whole == play(tmp_path / "three", *words, "runtime=flower", "runtime.nodes=3")


def test_a_server_app_plays_the_run_and_its_clients_build_the_workload_themselves(tmp_path):
    """Through Flower's own ServerApp and ClientApp: nothing but messages between the two."""
    words = ["algorithm=client_momentum", "attack=dba", "batching=loop"]
    whole = play(tmp_path / "inline", *words)
    words += ["runtime=flower", "runtime.nodes=2"]
    cell = {"play": "experiments.federation_cell.play", "config": config(*words),
            "folder": str(tmp_path / "apps"), "environment": {"source": "test"}}  # fmt: skip
    apps.built.cache_clear()
    grid = apps.LocalGrid(apps.client_app(state_dir=tmp_path / "state"), 2)
    context = apps.Context(1, 0, {}, RecordDict(), {"cell": json.dumps(cell)})
    apps.server(grid, context)
    assert (tmp_path / "apps/digest.txt").read_text().strip() == whole
    assert apps.built.cache_info().misses == 1 and apps.built.cache_info().hits > 3
    homes = {p.name: p.parent.name for p in (tmp_path / "state").glob("*/*/*")}
    assert sorted(homes, key=int) == [str(c) for c in range(8)]
    assert set(homes.values()) == {"0", "1"}


def test_a_run_stopped_in_round_three_resumes_to_the_same_digest(tmp_path):
    words = ["algorithm=client_momentum", "attack=free_riding_delta", "runtime=flower"]
    whole = play(tmp_path / "whole", *words, "runtime=inline")
    broken = {**config(*words), "checkpoint_s": 0}
    global_round = federation_cell.global_round

    def stops(parts, state):
        if state.round == 2:
            raise KeyboardInterrupt
        return global_round(parts, state)

    federation_cell.global_round = stops
    try:
        with pytest.raises(KeyboardInterrupt):
            federation_cell.play(broken, tmp_path / "broken", {"source": "test"})
    finally:
        federation_cell.global_round = global_round
    federation_cell.play(broken, tmp_path / "broken", {"source": "test"})
    assert (tmp_path / "broken/digest.txt").read_text().strip() == whole


def _joined(app, nodes, site, **keys):
    """A runtime on an in-process grid, as inside a ServerApp."""
    with joined(apps.LocalGrid(app, nodes)):
        return Flower(site, nodes=nodes, **keys)


def _site(parts, block=3):
    work = parts.runtime._work
    return Site(work, partial(_never, {}), block), work


def _never(config, device=None):
    raise AssertionError("the work is given, not built")


def _momentum(**keys):
    from fedalign.algorithms.client_momentum import ClientMomentum

    return federation(algorithm=ClientMomentum(), **keys)


def test_memories_stay_at_their_node_and_a_checkpoint_holds_versions_only(tmp_path):
    """Two rounds, a checkpoint between: a new server process and the old nodes repeat round 2 bit
    for bit, although round 2 had written newer versions."""
    parts = _momentum()
    site, work = _site(parts)
    app = apps.client_app(work, tmp_path / "state")
    first = _joined(app, 2, site)
    list(first.run(tasks(parts.workload, range(6), round=1)))
    first.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["flower.safetensors"]
    assert (tmp_path / "flower.safetensors").stat().st_size < 2000
    once = list(first.run(tasks(parts.workload, range(6), round=2)))
    resumed = _joined(app, 2, site)
    resumed.load(tmp_path)
    again = list(resumed.run(tasks(parts.workload, range(6), round=2)))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a.rows, b.rows) and torch.equal(a.clients, b.clients)
    fresh = list(_joined(app, 2, site).run(tasks(parts.workload, range(6), round=2)))
    assert not torch.equal(once[0].rows, fresh[0].rows), "momentum must matter here"


def test_blocks_are_dealt_by_the_numbers_of_nodes_whatever_their_ids(tmp_path):
    """Flower draws the ids; the nodes' own numbers decide who holds whose memory."""
    parts = _momentum()
    site, work = _site(parts)
    grid = apps.LocalGrid(apps.client_app(work, tmp_path), 2)
    one, two = grid._contexts[1].node_config, grid._contexts[2].node_config
    one["partition-id"], two["partition-id"] = 1, 0
    with joined(grid):
        list(Flower(site, nodes=2).run(tasks(parts.workload, range(6))))
    homes = {path.name: path.parent.name for path in tmp_path.glob("*/*/*")}
    assert homes == dict(zip("012345", "000111", strict=True))


def test_a_shelf_keeps_the_version_of_the_checkpoint_and_names_what_is_gone(tmp_path):
    shelf = Shelf(tmp_path)
    for turn in range(1, 5):
        shelf.write(7, turn, {"m": torch.tensor([turn])}, (2, turn - 1))
    assert sorted(p.name for p in (tmp_path / "7").iterdir()) == [
        f"{turn:08d}.safetensors" for turn in (2, 3, 4)
    ]
    assert shelf.read(7, 2)["m"].item() == 2 and shelf.read(7, None) == {}
    with pytest.raises(IntegrityError, match="memory of client 7 after turn 1"):
        shelf.read(7, 1)


def test_blocks_trained_together_are_never_torn_apart_silently(tmp_path):
    """vmap gives other last bits in other company, so the run refuses instead."""
    parts = _momentum(batching="vmap")
    site, work = _site(parts)
    site = dataclasses.replace(site, together=True)
    runtime = _joined(apps.client_app(work, tmp_path), 2, site)
    list(runtime.run(tasks(parts.workload, range(6))))
    with pytest.raises(ConfigError, match=r"batching=loop, participation=1 or runtime\.nodes=1"):
        list(runtime.run(tasks(parts.workload, [1, 2, 3, 4], round=2)))


def _mischief(behave):
    """A mod that lets the node of clients 0 to 2 misbehave."""

    def mod(message, context, call_next):
        if context.node_config["partition-id"] == 0 and message.metadata.message_type == "train":
            return behave(message, context, call_next)
        return call_next(message, context)

    return mod


def _raises(message, context, call_next):
    raise RuntimeError("the disk of this node is gone")


def _narrow(message, context, call_next):
    reply = call_next(message, context)
    answer = json.loads(reply.content["config"]["answer"])
    rows = reply.content["arrays"][answer["places"]["rows"]].numpy()
    reply.content["arrays"][answer["places"]["rows"]] = Array(rows[:, :-1].copy())
    return reply


def _strangers(message, context, call_next):
    reply = call_next(message, context)
    answer = json.loads(reply.content["config"]["answer"])
    clients = reply.content["arrays"][answer["places"]["clients"]].numpy()
    reply.content["arrays"][answer["places"]["clients"]] = Array(clients + 3)
    return reply


def _garbage(message, context, call_next):
    record = RecordDict({"arrays": ArrayRecord(), "config": ConfigRecord({"answer": "[1"})})
    return Message(record, reply_to=message)


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (
            _raises,
            "SuperNode 0 answered with an error: RuntimeError: the disk of this node is gone",
        ),
        (_narrow, r"SuperNode 0 sent rows of shape \(3, 649\), expected \(3, 650\)"),
        (_strangers, r"SuperNode 0 sent answers of clients \[3, 4, 5\], asked were \[0, 1, 2\]"),
        (_garbage, "SuperNode 0 sent an unreadable answer"),
    ],
)
def test_a_node_that_misbehaves_costs_its_clients_the_round_and_nobody_else(tmp_path, behave, why):
    parts = federation()
    site, work = _site(parts)
    app = apps.client_app(work, tmp_path, mods=[_mischief(behave)])
    blocks = list(_joined(app, 2, site).run(tasks(parts.workload, range(6))))
    honest = list(parts.runtime.run(tasks(parts.workload, range(6))))
    assert set(blocks[0].failed) == {0, 1, 2} and len(blocks[0].rows) == 0
    assert all(re.match(why, reason) for reason in blocks[0].failed.values())
    rows = Updates.concatenate(honest).rows[3:]
    assert torch.equal(blocks[1].rows, rows) and not blocks[1].failed


def test_the_quorum_stops_a_round_that_lost_too_many(tmp_path):
    parts = federation()
    site, work = _site(parts)
    app = apps.client_app(work, tmp_path, mods=[_mischief(_raises)])
    list(_joined(app, 2, site, quorum=0.5).run(tasks(parts.workload, range(6))))
    with pytest.raises(
        QuorumLostError,
        match=r"^Client 0 failed in round 1 while it was to train: SuperNode 0 answered.* 3 of 6",
    ):
        list(_joined(app, 2, site, quorum=0.6).run(tasks(parts.workload, range(6))))


class _Leaky(apps.LocalGrid):
    """A grid on which node 1 is slow for ever, or disconnected."""

    def __init__(self, app, nodes):
        super().__init__(app, nodes)
        self.gone, self.slow = False, True

    def push_messages(self, messages):
        late = [m for m in messages if self.slow and m.metadata.dst_node_id == 1]
        fast = super().push_messages([m for m in messages if m not in late])
        return [*("never" for _ in late), *fast]

    def get_node_ids(self):
        return [2] if self.gone else [1, 2]


def _leaky(tmp_path, parts):
    site, work = _site(parts)
    grid = _Leaky(apps.client_app(work, tmp_path), 2)
    with joined(grid):
        return grid, Flower(site, "ray", 2, timeout_s=0.3, start_s=0.1)


def test_a_hanging_node_is_left_behind_and_the_clients_of_a_lost_one_move(tmp_path):
    parts = federation()
    grid, runtime = _leaky(tmp_path, parts)
    blocks = list(runtime.run(tasks(parts.workload, range(6))))
    assert set(blocks[0].failed.values()) == {"SuperNode 0 gave no answer within 0.3 s"}
    assert blocks[1].clients.tolist() == [3, 4, 5]
    grid.gone = True
    blocks = list(runtime.run(tasks(parts.workload, range(6), round=2)))
    honest = list(parts.runtime.run(tasks(parts.workload, range(6), round=2)))
    rows = Updates.concatenate(blocks).rows
    assert torch.equal(rows, Updates.concatenate(honest).rows)


def test_memories_on_a_lost_node_cost_their_clients_the_round(tmp_path):
    parts = _momentum()
    grid, runtime = _leaky(tmp_path, parts)
    grid.slow = False
    list(runtime.run(tasks(parts.workload, range(6))))
    grid.gone = True
    blocks = list(runtime.run(tasks(parts.workload, range(6), round=2)))
    assert set(blocks[0].failed.values()) == {"SuperNode 0 is not connected"}
    assert blocks[1].clients.tolist() == [3, 4, 5]


def test_the_event_log_says_who_when_and_why(tmp_path):
    app, broken = apps.client_app, [_mischief(_raises)]
    with patch.object(apps, "client_app", lambda work, place: app(work, place, broken)):
        play(tmp_path, "runtime=flower", "runtime.nodes=2", "attack=none", "rounds=1")
    (event,) = [e for e, _ in read(tmp_path / "events.jsonl") if e["event"] == "round"]
    assert set(event["failed"]) == {"0", "1", "2", "6", "7"} and event["round"] == 1
    assert "the disk of this node is gone" in event["failed"]["6"]


def test_an_order_survives_the_wire_bit_for_bit():
    """One tensor shared by all tasks travels once; bfloat16, bool and empty extras arrive."""
    vector = torch.randn(5)
    extra = {"mask": torch.tensor([True, False]), "half": vector.bfloat16(), "none": torch.zeros(0)}
    given = [
        ClientTask("train", c, 3, vector, Work(2, c or None), 1, c == 1, extra) for c in (0, 1)
    ]
    apps._name_this_process()
    message = wire.order(wire.Order(given, [1, 1], "{}", "run", 4, [(None, None), (3, 2)]), 1)
    assert (
        len(message.content["arrays"]) == 4 and message.metadata.message_type == MessageType.TRAIN
    )
    order = wire.read_order(message)
    assert (order.run, order.turn, order.sizes) == ("run", 4, [1, 1])
    assert list(order.versions) == [(None, None), (3, 2)]
    for before, after in zip(given, order.tasks, strict=True):
        plain = {f.name for f in dataclasses.fields(before)} - {"vector", "extra"}
        assert all(getattr(before, name) == getattr(after, name) for name in plain)
        assert torch.equal(before.vector, after.vector)
        for name, value in before.extra.items():
            assert after.extra[name].dtype == value.dtype and torch.equal(after.extra[name], value)


@pytest.mark.parametrize(
    "target", ["os.system", "fedalign.core.digest.of_data; x", "builtins.eval"]
)
def test_a_node_builds_objects_of_our_packages_alone(target):
    cell = {"factory": "experiments.federation_cell.client_work",
            "arguments": [{"attack": {"rules": [{"_target_": target}]}}]}  # fmt: skip
    with pytest.raises(IntegrityError, match="builds objects of fedalign"):
        apps.built(json.dumps(cell))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["runtime.mode=cloud"], "runtime.mode must be one of local, ray, deploy, got 'cloud'"),
        (["runtime.nodes=0"], "runtime.nodes must be 1 or more, got 0"),
        (["runtime.quorum=2"], r"runtime.quorum must lie in \[0, 1\], got 2"),
        (["runtime.timeout_s=5"], "a hanging one cannot be left behind"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(words, why):
    wrong = config("runtime=flower", *words)
    for refuses in (federation_cell.validate, federation_cell.federation):
        with pytest.raises(ConfigError, match=why):
            refuses(wrong)


def test_no_module_of_the_folder_loads_flower_before_a_run_asks_for_it():
    code = ("import sys, fedalign.federation.runtimes.flower.runtime as r; "
            "print(any(m.split('.')[0] == 'flwr' for m in sys.modules))")  # fmt: skip
    root = Path(__file__).parents[4]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr
