"""The same contracts on networks that are not ours: eth-tester always, Hardhat where Node.js is."""

import hashlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from web3 import Web3

from consensus.chain.external import ExternalChain, connect
from consensus.chain.record import Commits, RoundRecord
from consensus.chain.settlement import Settlement
from consensus.identity import Key
from consensus.pofel import merkle
from fedalign.core.errors import ConfigError, DataError, IntegrityError
from fedalign.core.market import Payments
from tests.consensus.networks import network
from tests.consensus.pofel.servers import keys, nodes

tester = pytest.importorskip("eth_tester", reason="eth-tester is absent: pip install eth-tester")

PAYER = Key(hashlib.sha256(b"pays the gas").digest())
UPDATE = [merkle.leaf(bytes([i])) for i in range(5)]
HARDHAT = os.environ.get("HARDHAT_FOLDER", "")  # a folder with node_modules/hardhat


def wallet(client):
    return Key(hashlib.sha256(b"client %d" % client).digest()).node_id


def funded(web3):
    """The network's first account gives our key something."""
    sent = web3.eth.send_transaction(
        {"from": web3.eth.accounts[0], "to": Web3.to_checksum_address(PAYER.node_id),
         "value": 10**20, "gas": 21_000}
    )  # fmt: skip
    web3.eth.wait_for_transaction_receipt(sent)
    return web3


class AnsweringTester(Web3.EthereumTesterProvider):
    """eth-tester raises an exception of its own where a node over HTTP answers with an error."""

    def make_request(self, method, params):
        try:
            return super().make_request(method, params)
        except tester.exceptions.TransactionFailed as error:
            failure = {"code": 3, "message": str(error), "data": "0x"}
            return {"jsonrpc": "2.0", "id": 1, "error": failure}


@pytest.fixture
def chain():
    web3 = funded(Web3(AnsweringTester()))
    return ExternalChain.deploy(web3, PAYER, nodes(4), escrow_wei=1000)


def record(**more):
    commits = Commits([(node, bytes([i + 1]) * 32, 9) for i, node in enumerate(nodes(4))])
    return RoundRecord(1, nodes(4)[2], merkle.root(UPDATE), chunks=5, commits=commits, **more)


def signatures(chain, told, who=(0, 1, 2)):
    digest = chain.digest(told)
    return {keys(5)[i].node_id: keys(5)[i].sign(digest) for i in who}


def play(chain):
    """A round, its proofs and its pay; what every network must show alike."""
    settlement = Settlement.of(1, Payments([1, 2], [10, 20], 30), wallet)
    told = record(pay={nodes(4)[0]: 7}, claims=settlement.claims)
    with pytest.raises(DataError, match="not authorised"):
        chain.settle(told, signatures(chain, told, (0, 1)))
    chain.settle(told, signatures(chain, told))
    chain.check(told)
    with pytest.raises(IntegrityError, match="another round 1"):
        chain.check(record())
    with pytest.raises(DataError, match="round settled"):
        chain.settle(told, signatures(chain, told))
    path = list(merkle.proof(UPDATE, 4))
    assert chain.read("ModelRegistry", "verify_chunk", 1, 4, UPDATE[4], path)
    node, said, size = told.commits.entries[3]
    proof = list(told.commits.tree.proof(3))
    assert chain.read("Commitments", "committed", 1, node, said, size, 3, proof)
    for index in (0, 1):
        chain.claim(settlement.claim(index))
        paid = chain.web3.eth.get_balance(Web3.to_checksum_address(wallet(index + 1)))
        assert paid == settlement.amounts[index]
    with pytest.raises(DataError, match="claimed before"):
        chain.claim(settlement.claim(0))
    assert chain.read("Rewards", "escrow") == 1000 - 7 - 30
    chain.fund(5)
    assert chain.read("Rewards", "escrow") == 1000 - 7 - 30 + 5
    return told


def test_a_round_on_eth_tester(chain):
    play(chain)


def test_only_a_quorum_of_members_counts(chain):
    told = record()
    good = signatures(chain, told)
    stranger = signatures(chain, told, (0, 1, 4))  # the fifth key is no member
    for bad in (stranger, {n: s for n, s in zip(good, list(good.values())[::-1], strict=True)}):
        with pytest.raises(DataError, match="not authorised"):
            chain.settle(told, bad)
    with pytest.raises(DataError, match="not authorised"):  # other facts, the same signatures
        chain.settle(record(n_bytes=1), good)
    chain.settle(told, signatures(chain, told, (0, 1, 2, 3)))


def test_contracts_are_found_again_by_their_addresses(chain):
    again = ExternalChain(chain.web3, PAYER, chain.addresses)
    assert again.read("Members", "quorum") == 3
    nowhere = {**chain.addresses, "Votes": bytes(19) + b"\x77"}
    with pytest.raises(ConfigError, match="no Votes contract"):
        ExternalChain(chain.web3, PAYER, nowhere)
    with pytest.raises(DataError, match=r"ModelRegistry.model refuses: .*no such round"):
        chain.read("ModelRegistry", "model", 3)


def test_a_network_that_does_not_answer_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ConfigError, match=f"No Ethereum node answers at http://127.0.0.1:{port}"):
        connect(f"http://127.0.0.1:{port}", timeout_s=1)


def test_our_own_node_is_such_a_network_too():
    """Deployed over HTTP on a chain of ours, a second set of contracts, blocks sealed as they come."""
    with network(PAYER.node_id) as url:
        play(ExternalChain.deploy(connect(url), PAYER, nodes(4), escrow_wei=1000))


@pytest.mark.slow
def test_a_round_on_hardhats_node(tmp_path):
    if shutil.which("node") is None or not (Path(HARDHAT) / "node_modules" / "hardhat").is_dir():
        pytest.skip(
            "Hardhat is absent: `npm install hardhat@2` in an empty folder, then set HARDHAT_FOLDER"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "hardhat.config.js"
    config.write_text("module.exports = { networks: { hardhat: { hardfork: 'prague' } } };")
    command = ["node", "node_modules/.bin/hardhat", "--config", str(config), "node"]
    process = subprocess.Popen(
        [*command, "--hostname", "127.0.0.1", "--port", str(port)],
        cwd=HARDHAT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        web3, end = Web3(Web3.HTTPProvider(f"http://127.0.0.1:{port}")), time.time() + 60
        while not web3.is_connected() and time.time() < end:
            time.sleep(0.5)
        play(ExternalChain.deploy(funded(web3), PAYER, nodes(4), escrow_wei=1000))
    finally:
        process.terminate()
        process.wait()
