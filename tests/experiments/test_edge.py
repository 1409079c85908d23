"""Edge servers that play their own rounds: the simulation's models, recorded and verified."""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import pytest

from consensus.chain.deployment import free_ports
from experiments import edge, federation_cell, launcher, plan, recorder, verify
from experiments.cli import main
from fedalign.core.errors import (
    ConfigError,
    DataError,
    FedalignError,
    FolderBusyError,
    QuorumLostError,
)
from fedalign.core.log import read
from tests.consensus.network.test_processes import certificates
from tests.experiments.test_federation_cell import config, play

CHAIN = ["topology=edges", "topology.edges=2", "topology.edge_rounds=2", "consensus=raft",
         "rounds=3", "defense=hieavg", "attack=sign_flip"]  # fmt: skip
APART = [*CHAIN, "consensus.transport=processes"]
_numbers = count()


def told(folder):
    return [body for body, _ in read(folder / "events.jsonl")]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The same run in one process, and its digest."""
    folder = tmp_path_factory.mktemp("simulated") / "run"
    return folder, play(folder, *CHAIN)


def planned(folder, *words):
    """A plan as several machines share it, with sockets that leave no file."""
    cell = {**config(*words), "keep": "all"}
    name = f"unix:@fedalign-test-{os.getpid()}-{next(_numbers)}"
    folder.mkdir(exist_ok=True)
    addresses = [f"{name}-{i}" for i in range(cell["topology"]["edges"])]
    edge.write_plan(folder / "plan.yaml", cell, addresses, {"source": "test"})
    return folder / "plan.yaml"


def test_edge_servers_without_anybody_in_the_middle_come_to_the_simulations_models(
    simulated, tmp_path, monkeypatch
):
    """Two of them, each with its clients, its rule's memory and its attackers; afterwards the run
    is recorded from what they left: same digest, same rounds, and every aggregate is proved."""
    monkeypatch.setattr(edge, "LINGER_S", 1.0)
    file = planned(tmp_path / "edges", *APART)
    with pytest.raises(DataError, match=r"No edge server below .* has told of round 1"):
        recorder.record(file)
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(lambda i: edge.run(file, i, launched=False), range(2)))
    assert codes == [0, 0]
    run = recorder.record(file)
    folder, digest = simulated
    assert (run / "digest.txt").read_text().strip() == digest
    assert verify.verify(run) == verify.Account(1, 3, 3, 0, 3)
    for mine, other in zip(told(run)[1:-1], told(folder)[1:-1], strict=True):
        apart = {k for k in mine if mine[k] != other[k]}
        assert apart <= {"clock_s", "seconds", "chain"}
        for told_of in ("members", "rewards", "root", "strikes"):
            assert mine["chain"][told_of] == other["chain"][told_of]
        assert {e["event"] for e in told(file.parent / "0")} == {"begin", "round"}


def test_an_edge_server_that_lies_crafts_what_it_crafts_in_the_simulation(tmp_path, monkeypatch):
    """Faker in one of three, from its own model alone; small numbers survive the plan."""
    monkeypatch.setattr(edge, "LINGER_S", 1.0)
    lying = ["topology.edges=3", "clients=9", "attack=faker_norm", "attack_level=edge",
             "byzantine_fraction=0.34", "defense=fedavg", "rounds=2"]  # fmt: skip
    digest = play(tmp_path / "simulated", *CHAIN, *lying)
    file = planned(tmp_path / "edges", *APART, *lying)
    assert edge.read(file)["config"] == {**config(*APART, *lying), "keep": "all"}
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda i: edge.run(file, i, launched=False), range(3))) == [0, 0, 0]
    run = recorder.record(file)
    assert (run / "digest.txt").read_text().strip() == digest
    assert len(told(run)[1]["chain"]["liars"]) == 1


def test_keys_of_their_own_and_mutual_tls_over_tcp(simulated, tmp_path, monkeypatch, capsys):
    """The recipe for several machines, on one: keys made beforehand, identities in the plan, TLS.
    Other keys give other blocks, but the rows and the rule are the same, and so are the models."""
    pytest.importorskip("cryptography", reason="install cryptography to make certificates")
    monkeypatch.setattr(edge, "LINGER_S", 1.0)
    root, _, authority = certificates(tmp_path, "root")
    identities = []
    for i in range(2):
        assert main(["chain", "keygen", str(tmp_path / f"key-{i}.json")]) == 0
        identities.append(capsys.readouterr().out.split()[0])
        home = tmp_path / f"tls-{i}"
        home.mkdir()
        certificate, key, _ = certificates(home, i, authority)
        certificate.rename(home / "server.crt")
        key.rename(home / "server.key")
        (home / "ca.crt").write_bytes(root.read_bytes())
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    file = tmp_path / "edges" / "plan.yaml"
    words = ["clients=8", "data.limit=200", "byzantine_fraction=0.25", "block=3", *APART]
    named = ["--hosts", *hosts, "--identities", *identities]
    assert main(["edge", "plan", str(file), *named, "--", *words]) == 0
    with pytest.raises(ConfigError, match="every edge server needs its own: --key FILE"):
        edge.run(file, 0, launched=False)
    with pytest.raises(ConfigError, match=f"Server 0 is {identities[0]}, but this key is of 0x"):
        edge.run(file, 0, launched=False, key=tmp_path / "key-1.json")

    def serve(i):
        key, tls = tmp_path / f"key-{i}.json", tmp_path / f"tls-{i}"
        return edge.run(file, i, launched=False, key=key, tls=tls)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(serve, range(2))) == [0, 0]
    run = recorder.record(file)
    folder, digest = simulated
    assert (run / "digest.txt").read_text().strip() == digest
    assert told(run)[1]["chain"]["hash"] != told(folder)[1]["chain"]["hash"]
    assert verify.verify(run).blocks == 3


def test_an_edge_server_runs_once_and_an_unknown_one_never(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "LOCK_S", 0.1)
    file = planned(tmp_path, *APART)
    with edge.locked(tmp_path, 1), pytest.raises(FolderBusyError, match="Edge server 1 of"):
        edge.run(file, 1, launched=False)
    with pytest.raises(ConfigError, match=r"names 2 edge servers, 0 \.\. 1; there is no 2"):
        edge.run(file, 2, launched=False)
    (tmp_path / "other.yaml").write_text("seed: 0\n")
    with pytest.raises(ConfigError, match="is no plan of edge servers"):
        edge.run(tmp_path / "other.yaml", 0, launched=False)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["clock=wireless"], "cannot have clock: leave that out"),
        (["attack_level=edge", "attack=lie"], "cannot have edge servers that collude or see"),
        (["attack_level=edge", "byzantine_fraction=0.4", "topology.edges=5", "clients=10"],
         "cannot have edge servers that collude"),
        (["incentive=uniform_pay"], "cannot have an incentive"),
        (["consensus.down=[1]"], "cannot have consensus.down, cut, links and outages"),
        (["stragglers=temporary", "stragglers.late=true", "stragglers.level=edge"],
         "cannot have stragglers.late of edge servers"),
    ],
)  # fmt: skip
def test_what_edge_servers_alone_cannot_do_is_refused(words, reason):
    with pytest.raises(ConfigError, match=reason):
        plan.validate(config(*APART, "topology.edge_rounds=1", *words))


def test_a_plan_is_refused_before_anybody_copies_it(tmp_path, capsys):
    words = ["edge", "plan", str(tmp_path / "plan.yaml"), "--hosts", "a:7000", "b:7000", "--"]
    assert main([*words, "clients=8", *CHAIN]) == 1
    assert "add consensus.transport=processes" in capsys.readouterr().err
    assert main([*words, "clients=8", *APART, "topology.edges=3"]) == 1
    assert "topology.edges=3, but --hosts names 2" in capsys.readouterr().err
    assert main([*words, "clients=8", *APART]) == 0
    assert "on b:7000: fedalign edge --config plan.yaml --index 1" in capsys.readouterr().out
    assert edge.read(tmp_path / "plan.yaml")["addresses"] == ["tcp:a:7000", "tcp:b:7000"]
    assert main(["edge", "serve"]) == 1
    assert "After 'fedalign edge' comes one of" in capsys.readouterr().err


def _play(cell, folder):
    federation_cell.play(cell, folder, {"source": "test"})


def test_a_run_killed_for_good_goes_on_to_the_same_head(simulated, tmp_path):
    """SIGKILL, not an exception, behind the second block; resumed, the chain ends the same."""
    folder, digest = simulated
    cell = {**config(*CHAIN), "keep": "last", "checkpoint_s": 0}
    child = get_context("fork").Process(target=_play, args=(cell, tmp_path / "run"))
    child.start()
    _until(lambda: (tmp_path / "run/chain/blocks/000002.block").exists())
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -9 and not (tmp_path / "run/digest.txt").exists()
    _play(cell, tmp_path / "run")
    assert (tmp_path / "run/digest.txt").read_text().strip() == digest
    assert told(tmp_path / "run")[-2]["chain"]["hash"] == told(folder)[-2]["chain"]["hash"]
    assert told(tmp_path / "run")[-1]["closing"] == told(folder)[-1]["closing"]


def _until(happened, limit_s=60.0):
    until = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def serving(folder):
    """Ids of edge servers of a run, by position."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "edge" in words and str(folder / "edges/plan.yaml") in words:
            found[int(words[words.index("--index") + 1])] = int(path.parent.name)
    return found


@pytest.mark.slow
def test_a_launcher_killed_for_good_leaves_nobody_behind_and_goes_on(simulated, tmp_path):
    """Its edge servers end with it; started again they go on where they were, to the same models."""
    run, cell = tmp_path / "run", {**config(*APART), "keep": "last"}
    child = get_context("fork").Process(target=_play, args=(cell, run))
    child.start()
    _until(lambda: (run / "checkpoint/1").exists())
    assert len(serving(run)) == 2
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    _until(lambda: not serving(run), 15)
    _play(cell, run)
    assert (run / "digest.txt").read_text().strip() == simulated[1]
    assert not serving(run) and not (run / "edges").exists()
    assert verify.verify(run).blocks == 3


@pytest.mark.slow
def test_an_edge_server_killed_in_mid_round_stops_nobody(tmp_path):
    """SIGKILL behind the first block; not started again, it is missing from then on, and the log
    says who ended, when and why. What the others sealed is verified."""
    quick = ["train_ms=20000", "commit_ms=1000"]
    words = [*APART, "topology.edges=3", "topology.edge_rounds=1", "consensus.processes.restarts=0",
             "rounds=8", *(f"consensus.timeouts.{one}" for one in quick)]  # fmt: skip
    run, cell = tmp_path / "run", {**config(*words), "keep": "last"}
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(_play, cell, run)
        _until(lambda: (run / "checkpoint/1").exists() or ended.done())
        os.kill(serving(run)[2], signal.SIGKILL)
        ended.result()
    events = told(run)
    (incident,) = [e for e in events if e["event"] == "incident"]
    assert incident["edge"] == 2 and incident["at"].startswith("20")
    assert "Edge server 2 ended (killed by SIGKILL) and is given up" in incident["why"]
    rounds = [e for e in events if e["event"] == "round"]
    members = [e["chain"]["members"] for e in rounds]  # on a busy machine others may be late too
    assert 2 in members[0] and set(members[-1]) <= {0, 1} and 2 in rounds[-1]["meeting"]["missing"]
    assert verify.verify(run).blocks == 8 and not serving(run)


def _as(monkeypatch, program):
    """Edge servers that are no more than this line of Python."""
    command = [sys.executable, "-S", "-c", f"import os, sys, time; {program}"]
    monkeypatch.setattr(launcher.Launcher, "command", lambda self, index: command)


def test_an_edge_server_that_cannot_start_says_why(tmp_path, monkeypatch):
    """Its sentence is the run's; nothing is started again and again."""
    _as(monkeypatch, "sys.exit('The address is in use.')")
    with pytest.raises(FedalignError, match=r"server \d could not start: The address is in use\."):
        _play({**config(*APART), "keep": "last"}, tmp_path)
    assert [e["event"] for e in told(tmp_path)] == ["begin"]


def test_without_a_quorum_the_launcher_pauses_and_then_ends_the_run(tmp_path, monkeypatch, capfd):
    """Both die twice, which restarts=1 answers once; then the run says who is missing, waits, and
    ends in a way that the same command continues."""
    _as(monkeypatch, "os.kill(os.getpid(), 9)")
    quick = ["consensus.processes.restarts=1", "consensus.processes.wait_s=0.3"]
    with pytest.raises(QuorumLostError, match=r"0\.3 s\. The same command continues the run\."):
        _play({**config(*APART, *quick), "keep": "last"}, tmp_path)
    incidents = [e for e in told(tmp_path) if e["event"] == "incident"]
    assert [e["what"] for e in incidents].count("ended") == 4
    paused = next(e["why"] for e in incidents if e["what"] == "paused")
    assert "0 of 2 edge servers are running, 2 must: 0, 1 are missing" in paused
    assert paused in capfd.readouterr().err
