"""`fedalign chain keygen | up | status | show`: what they say, and what they refuse."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from web3 import Web3

from consensus.chain import keystore
from consensus.chain.deployment import Deployment
from consensus.on_evm import PoFELOnEvm
from consensus.ordering import RaftOrdering
from experiments.chain_cli import ask, main
from fedalign.core.agreement import Sealed
from fedalign.core.errors import ConfigError, FedalignError, IntegrityError
from tests.consensus.rounds import agree

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
        (["up", "--dir", "d", "--order", "pbft"], "invalid choice: 'pbft'"),
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
    with pytest.raises(ConfigError, match="a chain ordered by raft: leave out --order"):
        main(["up", "--dir", str(tmp_path), "--nodes", "2", "--order", "bft"])
    with pytest.raises(ConfigError, match="needs 4 servers or more, got 3: raise --nodes"):
        main(["up", "--dir", str(tmp_path / "new"), "--nodes", "3", "--order", "bft"])
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="a chain of 2 servers: --nodes 2"):
        main(["up", "--nodes", "4", "--dir", str(tmp_path)])


@pytest.fixture
def finished(tmp_path):
    """A run's folder: two rounds of PoFEL on an EVM and the closing block."""
    chain = PoFELOnEvm(4, ordering=RaftOrdering(), measure_cpu=False)
    chain.open(tmp_path / "run" / "chain")
    verdicts = [agree(chain, 1), agree(chain, 2)]
    chain.close(Sealed())
    return tmp_path / "run", verdicts


def test_show_reads_a_finished_run(finished, capsys):
    folder, verdicts = finished
    assert main(["show", "2", "--dir", str(folder)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["round"] == 2 and told["updateRoot"] == "0x" + verdicts[1].block.root.hex()
    assert told["votes"]["count"] == hex(len(verdicts[1].votes))
    assert main(["show", "4", "--dir", str(folder)]) == 1
    assert "not settled; the head is block 3" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no finished EVM chain"):
        main(["serve", str(folder / "nothing")])
    block = folder / "chain" / "evm" / "000001.block"
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"000001\.block"):
        main(["show", "2", "--dir", str(folder)])


def test_a_stock_client_reads_a_finished_run(finished):
    """`chain serve` in a process of its own: every block through web3."""
    folder, verdicts = finished
    process = started("serve", str(folder))
    line = process.stdout.readline()
    assert line.startswith("3 blocks verified; http://127.0.0.1:")
    web3 = Web3(Web3.HTTPProvider(line.split()[3]))
    for height, verdict in enumerate(verdicts, start=1):
        block = web3.eth.get_block(height)
        assert block["extraData"] == verdict.block.hash and len(block["transactions"]) == 1
        assert web3.eth.get_transaction_receipt(block["transactions"][0])["status"] == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def started(*words):
    code = "import sys; from experiments.chain_cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_up_prints_addresses_answers_and_ends_with_its_parent(tmp_path, capsys):
    process = started("up", "--nodes", "2", "--dir", str(tmp_path))
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
