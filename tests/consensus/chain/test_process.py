"""Four operating system processes: one chain, killed and restarted servers, a stock web3 client."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from web3 import Web3

from consensus.chain import keystore
from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.chain.deployment import FILE, Deployment
from consensus.chain.genesis import ADDRESSES
from consensus.chain.process import ChainProcess
from consensus.chain.transactions import signed
from fedalign.core.errors import ConfigError, DataError, FolderBusyError

ROOT = Path(__file__).parents[3]


class Four:
    """The servers of a folder; they end with the block."""

    def __init__(self, folder, **how):
        self.folder = folder
        self.deployment = Deployment.create(folder, 4, int(time.time()), **how)
        self.running = {}

    def __enter__(self):
        for node in range(4):
            self.start(node)
        return self

    def __exit__(self, *_):
        for process in self.running.values():
            process.terminate()
        self.codes = [process.wait(20) for process in self.running.values()]

    def start(self, node):
        process = subprocess.Popen(
            [sys.executable, "-m", "consensus.chain.process", str(self.folder), str(node)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        url = process.stdout.readline().strip()
        assert url == self.deployment.rpc_url(node), process.stderr.read()
        self.running[node] = process

    def kill(self, node):
        process = self.running.pop(node)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def web3(self, node):
        return Web3(Web3.HTTPProvider(self.deployment.rpc_url(node)))

    def until(self, holds, what, seconds=40):
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"{what} did not come true: {self.heights()}"
            time.sleep(0.1)

    def heights(self):
        return {node: self.web3(node).eth.block_number for node in self.running}

    def pay(self, nonce, through):
        """Member 3's key pays one wei to nobody; the transaction's hash."""
        return self.send(3, through, nonce=nonce, to=bytes(20), value=1, gas=21_000)

    def send(self, member, through, **transaction):
        key = keystore.load(self.deployment.home(self.folder, member) / "key.json")
        raw = signed(key, chain_id=131_277, **transaction)
        return self.web3(through).eth.send_raw_transaction(raw)

    def settled(self, sent, node):
        web3 = self.web3(node)
        try:
            return web3.eth.get_transaction_receipt(sent)["status"] == 1
        except Exception:
            return False


@pytest.mark.slow
@pytest.mark.parametrize("order", ["raft", "bft"])
def test_a_chain_of_processes_outlives_the_kill_of_any_one_and_nobody_forks(tmp_path, order):
    """Raft's log keeps 8 entries: the killed server, 5 blocks behind, is handed a state by hash and
    fetches the blocks by their seals. BFT's heights come with their certificates."""
    with Four(tmp_path, order=order, snapshot_every=8) as four:
        first = four.pay(0, through=1)
        for node in range(4):
            four.until(lambda node=node: four.settled(first, node), "the payment on every server")
        told = _status(four, 0)
        leader = told["leader"]
        assert (told["order"], told["voters"]) == (order, [0, 1, 2, 3])
        four.kill(leader)
        alive = sorted(four.running)
        for nonce in range(1, 6):
            sent = four.pay(nonce, through=alive[nonce % 3])
            four.until(lambda sent=sent: four.settled(sent, alive[0]), "payments without it")
        if order == "raft":
            assert _status(four, alive[0])["log"] > 8  # where the log that is left begins
        four.start(leader)
        four.until(lambda: four.settled(sent, leader), "the restarted server catches up")
        last = four.pay(6, through=leader)
        four.until(lambda: four.settled(last, alive[2]), "the restarted server takes part")
        assert _status(four, leader)["ready"]
        gone = four.deployment.genesis.members[3]
        for member in range(3):  # three of four agree that server 3 leaves
            call = Interface(compiled("Members").abi).call("approve", gone, False)
            four.send(member, member, nonce=0, to=ADDRESSES["Members"], data=call)
        for node in range(4):
            four.until(
                lambda node=node: _status(four, node)["voters"] == [0, 1, 2], "the order follows"
            )
        height = min(four.heights().values())
        hashes = {four.web3(node).eth.get_block(height)["hash"] for node in range(4)}
        assert len(hashes) == 1
        web3 = four.web3(leader)
        for number in range(1, height + 1):
            block = web3.eth.get_block(number)
            assert block["parentHash"] == web3.eth.get_block(number - 1)["hash"]
        with pytest.raises(FolderBusyError, match="a server runs once"):
            ChainProcess(tmp_path, leader)
    assert four.codes == [0, 0, 0, 0]


def _status(four, node):
    return dict(four.web3(node).provider.make_request("fedalign_status", []))["result"]


@pytest.mark.slow
def test_two_of_four_seal_nothing_and_go_on_once_a_third_is_back(tmp_path):
    with Four(tmp_path) as four:
        four.until(lambda: min(four.heights().values()) >= 1, "a first block")
        four.kill(0)
        four.kill(1)
        time.sleep(1)
        stuck = four.heights()
        sent = four.pay(0, through=2)
        time.sleep(7)  # longer than an interval between blocks
        assert max(four.heights().values()) <= max(stuck.values()) + 1  # at most one was on its way
        assert not four.settled(sent, 2)
        four.start(0)
        four.until(lambda: four.settled(sent, 0), "three of four go on, and the payment waited")


# ---------------------------------------------------------------- the folder


def test_a_deployment_comes_back_from_its_folder(tmp_path):
    made = Deployment.create(tmp_path, 3, 1_000)
    assert Deployment.read(tmp_path) == made and len(set(made.rpc_ports)) == 3
    assert made.genesis.needs(3) == 2  # a majority: servers only stop
    other = Deployment.create(tmp_path / "bft", 4, 1_000, order="bft", snapshot_every=7)
    assert Deployment.read(tmp_path / "bft") == other and other.genesis.needs(4) == 3
    for node in range(3):
        key = keystore.load(tmp_path / f"node-{node}" / "key.json")
        assert key.node_id.hex() == made.members[node]
    with pytest.raises(ConfigError, match="holds a chain already"):
        Deployment.create(tmp_path, 3, 1_000)


def test_folders_without_a_chain_are_named(tmp_path):
    with pytest.raises(ConfigError, match="holds no chain: fedalign chain up"):
        Deployment.read(tmp_path)
    (tmp_path / FILE).write_text('{"chain_id": 1}')
    with pytest.raises(DataError, match="describes no chain"):
        Deployment.read(tmp_path)
    with pytest.raises(ConfigError, match=r"1 \.\. 64 servers, got 0"):
        Deployment.create(tmp_path / "new", 0, 1)
    with pytest.raises(ConfigError, match="needs 4 servers or more, got 3"):
        Deployment.create(tmp_path / "new", 3, 1, order="bft")
    with pytest.raises(ConfigError, match="one of raft, bft and snapshot_every at least 1"):
        Deployment.create(tmp_path / "new", 4, 1, snapshot_every=0)


def test_a_server_with_anothers_key_does_not_start(tmp_path):
    Deployment.create(tmp_path, 2, 1_000)
    (tmp_path / "node-0" / "key.json").replace(tmp_path / "node-1" / "key.json")
    with pytest.raises(ConfigError, match="not the key of server 1"):
        ChainProcess(tmp_path, 1)
    with pytest.raises(ConfigError, match="no key in"):
        ChainProcess(tmp_path, 0)
    with pytest.raises(ConfigError, match=r"servers 0 \.\. 1, no 2"):
        ChainProcess(tmp_path, 2)


def test_encrypted_keys_need_their_passphrase(tmp_path, monkeypatch):
    monkeypatch.setattr(keystore, "SCRYPT_WORK", 1 << 10)
    Deployment.create(tmp_path, 1, 1_000, passphrase="open sesame")
    with pytest.raises(ConfigError, match="give its passphrase"):
        ChainProcess(tmp_path, 0)
    process = ChainProcess(tmp_path, 0, "open sesame")
    process.member.node.close()
    process._lock.close()
