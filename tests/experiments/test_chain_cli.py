"""`fedalign chain keygen | up | status | show`: what they say, and what they refuse."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consensus.chain import keystore
from consensus.chain.deployment import Deployment
from experiments.chain_cli import ask, main
from fedalign.core.errors import ConfigError, FedalignError

ROOT = Path(__file__).parents[2]


def test_keygen_writes_a_key_for_its_owner_only(tmp_path, capsys):
    path = tmp_path / "key.json"
    assert main(["keygen", str(path)]) == 0
    key = keystore.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out.split() == ["0x" + key.node_id.hex(), str(path)]
    with pytest.raises(ConfigError, match="is kept"):
        main(["keygen", str(path)])


def test_keygen_encrypts_where_a_passphrase_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(keystore.save, "__defaults__", (None, 1 << 10))
    secret = tmp_path / "passphrase"
    secret.write_text("open sesame\n")
    path = tmp_path / "key.json"
    assert main(["keygen", str(path), "--passphrase-file", str(secret)]) == 0
    assert keystore.load(path, "open sesame") and "privateKey" not in path.read_text()
    with pytest.raises(ConfigError, match="cannot be read"):
        main(["keygen", str(tmp_path / "b"), "--passphrase-file", str(tmp_path / "none")])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "comes one of"),
        (["start"], "comes one of"),
        (["up"], "--dir"),
        (["up", "--dir", "d", "--nodes", "many"], "invalid int value"),
        (["show", "--dir", "d"], "round"),
        (["status", "--dir", "d", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(words, why):
    with pytest.raises(ConfigError, match=why) as told:
        main(words)
    assert "fedalign chain up --nodes 4 --dir D" in str(told.value)


def test_servers_that_do_not_answer_are_named(tmp_path, capsys):
    Deployment.create(tmp_path, 2, 1_000)
    assert main(["status", "--dir", str(tmp_path)]) == 1
    assert "0 of 2 servers answer" in capsys.readouterr().out
    with pytest.raises(FedalignError, match="fedalign chain up"):
        main(["show", "1", "--dir", str(tmp_path)])
    with pytest.raises(ConfigError, match="holds no chain"):
        main(["status", "--dir", str(tmp_path / "none")])


def test_up_refuses_another_number_of_servers(tmp_path):
    Deployment.create(tmp_path, 2, 1_000)
    with pytest.raises(ConfigError, match="a chain of 2 servers: --nodes 2"):
        main(["up", "--nodes", "4", "--dir", str(tmp_path)])


@pytest.mark.slow
def test_up_prints_addresses_answers_and_ends_with_its_parent(tmp_path, capsys):
    code = "import sys; from experiments.chain_cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "up", "--nodes", "2", "--dir", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(4)]
    urls = [line.split()[-1] for line in lines[:2]]
    assert "none may lie" in lines[2] and len(set(urls)) == 2
    end = time.monotonic() + 30
    while int(ask(urls[1], "eth_blockNumber"), 16) < 1 and time.monotonic() < end:
        time.sleep(0.2)
    assert main(["status", "--dir", str(tmp_path)]) == 0
    assert "2 of 2 servers answer" in capsys.readouterr().out
    assert main(["show", "1", "--dir", str(tmp_path)]) == 1
    assert "Round 1 is not settled; the head is block" in capsys.readouterr().out
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    for url in urls:
        with pytest.raises(OSError):
            ask(url, "eth_blockNumber")
