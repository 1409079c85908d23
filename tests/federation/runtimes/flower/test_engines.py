"""Ray and the deployment engine: the digest of inline, and nothing left over, however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from experiments import compose, federation_cell
from fedalign.core.errors import ConfigError, FedalignError
from fedalign.core.log import read
from fedalign.federation.runtimes.flower import deploy, engine_process, engines, keys

ROOT = Path(__file__).parents[4]
WORDS = ["clients=6", "rounds=2", "data.limit=150", "byzantine_fraction=0.25", "block=3",
         "algorithm=client_momentum", "attack=dba", "batching=loop"]  # fmt: skip
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is absent: pip install 'flwr[simulation]>=1.41,<1.43'"
)


def config(*words):
    return dict(compose.study([*WORDS, "keep=last", *words]).cells[0].config)


def play(folder, *words):
    federation_cell.play(config(*words), folder, {"source": "test"})
    return (folder / "digest.txt").read_text().strip()


def living(mark):
    """Id -> command of processes that inherited the environment variable MARK; zombies have none."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"FEDALIGN_MARK={mark}\0".encode() in path.read_bytes():
                words = (path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(path.parent.name)] = words
        except OSError:
            continue
    return found


def left_over(mark):
    return list(living(mark).values())


def kill(mark, program, words=""):
    """SIGKILL to a program of a deployment, none of its children."""
    (number,) = [n for n, line in living(mark).items() if f"/{program} " in line and words in line]
    os.kill(number, signal.SIGKILL)


def gone(mark, seconds):
    """What is left of `mark` after at most so many seconds."""
    deadline = time.monotonic() + seconds
    while (rest := left_over(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return rest


@contextmanager
def started(folder, *words, stderr=None):
    """The run in a process of its own, marked by its folder; dead at the end, whatever happens."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({**config(*words), "checkpoint_s": 0}))
    code = (
        "import json, pathlib; from experiments.federation_cell import play; "
        f"play(json.loads(pathlib.Path({str(plan)!r}).read_text()), "
        f"pathlib.Path({str(folder / 'run')!r}), {{'source': 'test'}})"
    )
    environment = {**os.environ, "FEDALIGN_MARK": str(folder)}
    if "runtime.mode=deploy" in words:  # Ray's sockets need a short path
        environment["TMPDIR"] = str(folder / "tmp")
        (folder / "tmp").mkdir()
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition, seconds, process=None):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        assert process is None or process.poll() is None, "it ended before"
        time.sleep(0.1)
    assert condition(), f"not after {seconds} s"


@needs_ray
@pytest.mark.slow
def test_ray_gives_the_digest_of_inline_after_kill_9_too_and_leaves_nothing(tmp_path):
    """Killed after its first checkpoint; the daemons end, the memories of round 1 are still at
    their nodes, and the run taken up again ends where an unbroken one does."""
    whole = play(tmp_path / "inline", "rounds=6")
    words = ["rounds=6", "runtime=flower", "runtime.mode=ray"]
    with started(tmp_path, *words) as process:
        wait_for(lambda: list((tmp_path / "run/checkpoint").glob("[0-9]*")), 120, process)
        assert left_over(tmp_path), "daemons must be there while it runs"
    assert not (tmp_path / "run/digest.txt").exists(), "it ended before it could be killed"
    assert gone(tmp_path, 30) == []
    assert list((tmp_path / "run/clients").glob("*/*/*/*.safetensors"))
    assert play(tmp_path / "run", *words) == whole
    assert not (tmp_path / "run/clients").exists()


@pytest.mark.slow
def test_the_deployment_engine_gives_the_digest_of_inline_and_leaves_nothing(tmp_path):
    """SuperLink and two SuperNodes as processes on loopback, with TLS and registered keys."""
    whole = play(tmp_path / "inline", "rounds=1")
    words = ["rounds=1", "runtime=flower", "runtime.mode=deploy", "runtime.secure=true"]
    with started(tmp_path, *words) as process:
        assert process.wait(300) == 0
    assert (tmp_path / "run/digest.txt").read_text().strip() == whole
    assert gone(tmp_path, 5) == [] and not list((tmp_path / "tmp").glob("*flower*"))


@pytest.mark.slow
def test_ctrl_c_ends_a_deployment_and_all_its_processes(tmp_path):
    words = ["rounds=50", "runtime=flower", "runtime.mode=deploy"]
    with started(tmp_path, *words) as process:
        nodes = lambda: any("flower-supernode" in line for line in left_over(tmp_path))  # noqa: E731
        wait_for(nodes, 90, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    assert gone(tmp_path, 5) == [] and not list((tmp_path / "tmp").glob("*flower*"))


@pytest.mark.slow
def test_rounds_go_on_without_a_killed_supernode_and_end_with_the_superlink(tmp_path):
    """Clients whose memory lies at a node that is gone fail by its name, and rounds go on; without
    a SuperLink there is no run, and a sentence says so."""
    words = ["rounds=50", "runtime=flower", "runtime.mode=deploy", "runtime.timeout_s=30",
             "attack=none", "byzantine_fraction=0"]  # fmt: skip
    events = tmp_path / "run/events.jsonl"

    def failed():
        played = [e for e, _ in read(events) if e["event"] == "round"] if events.exists() else []
        return [event["failed"] for event in played]

    def held():
        return {path.name for path in (tmp_path / "run/clients").glob("*/1/*")}

    with (
        open(tmp_path / "stderr", "w") as stderr,
        started(tmp_path, *words, stderr=stderr) as process,
    ):
        wait_for(lambda: {} in failed() and held(), 240, process)  # first messages may be slow
        kill(tmp_path, "flower-supernode", "partition-id=1")
        before, theirs = len(failed()), held()
        gone_with_it = lambda: [w for w in failed()[before:] if theirs <= set(w)]  # noqa: E731
        wait_for(gone_with_it, 300, process)  # a round under way may have to time out first
        reason = r"SuperNode 1 (gave no answer within 30 s|is not connected)"
        why = gone_with_it()[0]  # on a busy machine the other node may be late as well
        assert all(re.match(reason, why[client]) for client in theirs)
        kill(tmp_path, "flower-superlink")
        assert process.wait(60) != 0
    said = (tmp_path / "stderr").read_text()
    assert re.search(
        r"^fedalign\S+Error: The SuperLink ended \(exit code -9\) .* continues", said, re.M
    )
    assert gone(tmp_path, 5) == []


def test_an_engine_ends_with_its_parent_and_takes_its_children_along(tmp_path):
    """The pipe closes: a grandchild that ignores SIGTERM, in a session of its own, ends too."""
    stubborn = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                "print('up', flush=True); time.sleep(60)")  # fmt: skip
    code = f"""
import subprocess, sys
from fedalign.federation.runtimes.flower import engine_process
child = subprocess.Popen([sys.executable, "-c", {stubborn!r}], start_new_session=True,
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
engine_process._watch(lambda: None, {str(tmp_path)!r})
import time; time.sleep(60)
"""
    environment = {**os.environ, "FLWR_HOME": f"{tmp_path}/home"}
    engine = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    child = int(engine.stdout.readline())
    assert child in engine_process.marked(str(tmp_path))
    engine.stdin.close()
    assert engine.wait(20) == 1
    wait_for(lambda: not engine_process.marked(str(tmp_path)), 5)


def test_the_error_of_a_run_crosses_the_processes_as_a_sentence(tmp_path):
    report, log = tmp_path / "report.json", tmp_path / "engine.log"
    report.write_text(json.dumps({"error": "Krum with f=5 needs at least 13 clients, got 10."}))
    with pytest.raises(FedalignError, match=r"^Krum with f=5"):
        engines._settle(report, log, "ray")
    report.unlink()
    log.write_text("one\n\ntwo\n  OSError: no port was free\nRuntimeError: it ends\n")
    with pytest.raises(FedalignError, match=r"mode=ray[^\n]*: OSError: no port was free\n"):
        engines._settle(report, log, "ray")


def test_what_is_not_installed_is_said_before_any_training(monkeypatch):
    for package, mode in (("flwr", "deploy"), ("ray", "ray")):
        found = lambda name, package=package: None if name == package else object()  # noqa: E731
        monkeypatch.setattr(engines, "find_spec", found)
        with pytest.raises(ConfigError, match=r"is absent: pip install 'flwr"):
            federation_cell.validate(config("runtime=flower", f"runtime.mode={mode}"))


def test_keys_verify_and_only_their_owner_reads_the_secret_ones(tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys.make(tmp_path, 2)
    root, server = (
        x509.load_pem_x509_certificate((tmp_path / name).read_bytes())
        for name in ("ca.crt", "server.crt")
    )
    server.verify_directly_issued_by(root)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    public = []
    for i in range(2):
        key = serialization.load_ssh_private_key((tmp_path / f"node_{i}").read_bytes(), None)
        told = serialization.load_ssh_public_key((tmp_path / f"node_{i}.pub").read_bytes())
        assert isinstance(key.curve, ec.SECP384R1)
        assert key.public_key().public_numbers() == told.public_numbers()
        public.append(told.public_numbers().x)
    assert public[0] != public[1]
    for name in ("server.key", "node_0", "node_1"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_supernodes_share_the_cards_in_turn(tmp_path):
    def card(cards, number):
        runtime = {**config("runtime=flower", "runtime.mode=deploy")["runtime"], "cards": cards}
        plan = {"cell": {}, "runtime": runtime, "state": "", "scratch": str(tmp_path)}
        return deploy.Deployment(plan)._card(number)

    assert card(["cuda:0", "cuda:1"], 3) == {"FEDALIGN_DEVICE": "cuda:1"}
    assert card([], 3) == {}


def test_free_ports_are_free():
    import socket

    with socket.socket() as probe:
        probe.bind((deploy.HOST, deploy.free_port()))
