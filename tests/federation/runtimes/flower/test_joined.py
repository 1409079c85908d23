"""A SuperLink that is there already, with the keys of `fedalign keys`: a study joins it and leaves."""

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from experiments import cli, federation_cell
from fedalign.core.errors import ConfigError
from fedalign.federation.runtimes.flower import deploy, engines
from tests.federation.runtimes.flower.test_engines import config, play, wait_for

BIN = Path(sys.executable).parent


def recipe(said, program, **values):
    """The words of a command that the printed recipe gives, its variables filled in."""
    command = re.search(rf"{program} (?:.*\\\n)*.*", said)[0].split(";")[0].replace("\\\n", " ")
    for name, value in values.items():
        command = command.replace(name, str(value))
    return shlex.split(command.replace("$i", "0").replace("$((9094 + i))", "0"))


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex((deploy.HOST, port)) == 0


@pytest.mark.slow
def test_a_study_joins_a_running_superlink_by_the_printed_recipe(tmp_path, capsys, monkeypatch):
    """One SuperNode with a registered key over TLS; the digest of inline; both outlive the run."""
    whole = play(tmp_path / "inline", "rounds=1")
    assert cli.main(["keys", "--dir", str(tmp_path / "keys"), "--nodes", "1"]) == 0
    said, port = capsys.readouterr().out, deploy.free_port()
    for name, value in {**engines.QUIET, "FLWR_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", os.pathsep.join([str(BIN), os.environ["PATH"]]))
    address = re.search(r"  \[superlink.lan\]\n.*\n.*\n", said)[0].replace("8000", str(port))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/config.toml").write_text(address)
    link = recipe(said, "flower-superlink", **{"8000": port})
    node = recipe(said, "flower-supernode", **{
        ":8000": f":{port}", "$HOME": tmp_path, "$((9094 + i))": deploy.free_port(),
    })  # fmt: skip
    with ExitStack() as stack, open(tmp_path / "log", "w") as log:
        programs = []

        def start(words):
            programs.append(subprocess.Popen(words, stdout=log, stderr=log))
            stack.callback(programs[-1].wait, 30)
            stack.callback(programs[-1].terminate)

        start(link)
        wait_for(lambda: listens(port), 90, programs[0])
        subprocess.run(recipe(said, "flwr supernode register"), check=True, stdout=log, stderr=log)
        start(node)
        words = ["rounds=1", "runtime=flower", "runtime.mode=deploy", "runtime.nodes=1",
                 f"runtime.superlink={deploy.HOST}:{port}",
                 f"runtime.root_certificates={tmp_path}/keys/ca.crt"]  # fmt: skip
        assert play(tmp_path / "joined", *words) == whole
        assert all(program.poll() is None for program in programs)
    assert list((tmp_path / ".fedalign").glob("*/0/*/*.safetensors")), "memories lie at the node"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["runtime.superlink=a:80"], r"needs runtime\.mode=deploy"),
        (["runtime.mode=deploy", "runtime.superlink=http://a"], "must be HOST:PORT, such as"),
        (["runtime.mode=deploy", "runtime.root_certificates=ca.crt"], "give runtime.superlink=HOST"),
        (["runtime.mode=deploy", "runtime.superlink=a:80", "runtime.root_certificates=/no/ca.crt"],
         "There is no file /no/ca.crt"),
        (["runtime.mode=deploy", "runtime.superlink=a:80", "runtime.secure=true"],
         r"give runtime\.root_certificates=ca\.crt"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused_before_training(words, why):
    with pytest.raises(ConfigError, match=why):
        federation_cell.validate(config("runtime=flower", *words))
