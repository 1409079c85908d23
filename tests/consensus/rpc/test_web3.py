"""An unmodified web3.py client reads blocks, logs and receipts and calls contracts."""

import hashlib

import pytest
from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractLogicError, ExtraDataLengthError

from consensus.chain.compiler import compiled
from consensus.chain.genesis import ADDRESSES
from consensus.chain.pool import Pool
from consensus.chain.record import RoundRecord
from consensus.chain.settlement import Settlement
from consensus.identity import Key
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.jsonrpc import Endpoint
from consensus.rpc.provider import NodeProvider
from consensus.rpc.rounds import RoundMethods
from consensus.rpc.server import ThreadedServer
from fedalign.core.market import Payments
from tests.consensus.chain.chains import Bench

CLIENT = Key(hashlib.sha256(b"a client").digest())


@pytest.fixture(scope="module")
def bench():
    """Two settled rounds; the second one posts claims."""
    bench = Bench(4)
    bench.pool = Pool(bench.node)
    bench.settlement = Settlement.of(1, Payments([1], [30], 30), lambda _: CLIENT.node_id)
    for height, claims in ((1, (0, bytes(32), 0, 0)), (2, bench.settlement.claims)):
        told = RoundRecord(height, bench.keys[0].node_id, bytes([height]) * 32, claims=claims)
        bench.block(bench.raw(bench.keys[0], "Rounds", told.call()))
    bench.endpoint = Endpoint(
        EthereumMethods(bench.node, bench.pool).methods() | RoundMethods(bench.node).methods()
    )
    return bench


@pytest.fixture(scope="module", params=["http", "in process"])
def web3(request, bench):
    if request.param == "in process":
        yield Web3(NodeProvider(bench.endpoint))
        return
    with ThreadedServer(bench.endpoint) as server:
        yield Web3(Web3.HTTPProvider(server.url))


def contract(web3, name):
    address = Web3.to_checksum_address(ADDRESSES[name])
    return web3.eth.contract(address=address, abi=list(compiled(name).abi))


def test_every_block_is_read_without_any_middleware(web3, bench):
    """A seal inside extraData would raise ExtraDataLengthError here; ours stands beside the block."""
    assert web3.is_connected() and web3.eth.chain_id == 131_277
    for height in range(bench.node.height + 1):
        header = bench.node.header_at(height)
        block = web3.eth.get_block(height)
        assert block["hash"] == header.hash and len(block["extraData"]) == 32
        assert block["parentHash"] == header.parent_hash
        assert web3.eth.get_block(block["hash"])["number"] == height
    for tag in ("latest", "safe", "finalized"):
        assert web3.eth.get_block(tag)["number"] == bench.node.height
    assert web3.eth.block_number == bench.node.height


def test_a_seal_inside_the_header_would_lock_stock_clients_out(bench):
    """Why the seal is detached: 32 + 65 bytes of extra data, as in Clique, and web3 refuses."""

    def inline(which, full=False, read=bench.endpoint.methods["eth_getBlockByNumber"]):
        block = read(which, full)
        return {**block, "extraData": block["extraData"] + "00" * 65}

    web3 = Web3(NodeProvider(Endpoint({**bench.endpoint.methods, "eth_getBlockByNumber": inline})))
    with pytest.raises(ExtraDataLengthError):
        web3.eth.get_block(1)


def test_transactions_and_receipts(web3, bench):
    block = web3.eth.get_block(2, full_transactions=True)
    (found,) = block["transactions"]
    assert found["from"] == Web3.to_checksum_address(bench.keys[0].node_id)
    assert web3.eth.get_transaction(found["hash"]) == found
    receipt = web3.eth.get_transaction_receipt(found["hash"])
    assert receipt["status"] == 1 and receipt["gasUsed"] == block["gasUsed"]
    assert receipt["effectiveGasPrice"] == 0 and len(receipt["logs"]) == 4
    assert web3.eth.get_block_transaction_count(2) == 1
    assert web3.eth.get_block_receipts(2)[0] == receipt


def test_logs_by_contract_topic_and_range(web3, bench):
    rounds = contract(web3, "Rounds")
    settled = rounds.events.Settled.get_logs(from_block=0)
    assert [event["args"]["round"] for event in settled] == [1, 2]
    one = rounds.events.Settled.get_logs(from_block=0, argument_filters={"round": 2})
    assert [event["blockNumber"] for event in one] == [2]
    assert web3.eth.get_logs({"fromBlock": 0, "toBlock": 0}) == []
    whole = web3.eth.get_logs({"blockHash": web3.eth.get_block(2)["hash"]})
    assert [log["logIndex"] for log in whole] == [0, 1, 2, 3]
    posted = contract(web3, "Rewards").events.Posted.get_logs(from_block=0)
    assert posted[0]["args"] == {"round": 1, "root": bench.settlement.root, "total": 30}


def test_calls_code_and_storage(web3, bench):
    members = contract(web3, "Members").functions
    assert [bytes.fromhex(m[2:]) for m in members.all().call()] == [k.node_id for k in bench.keys]
    assert members.quorum().call() == 3
    model = contract(web3, "ModelRegistry").functions.model(2).call()
    assert model[1] == bytes([2]) * 32 and model[6] == 2
    with pytest.raises(ContractLogicError, match="no such round"):
        contract(web3, "ModelRegistry").functions.model(9).call()
    with pytest.raises(ContractLogicError, match="only members"):
        members.approve("0x" + "11" * 20, True).call()
    code = web3.eth.get_code(Web3.to_checksum_address(ADDRESSES["Members"]))
    assert len(code) > 1000
    assert web3.eth.get_storage_at(Web3.to_checksum_address(ADDRESSES["Members"]), 0) == bytes(32)
    wallet = Web3.to_checksum_address(bench.keys[3].node_id)
    assert web3.eth.get_balance(wallet) == 10**24 and web3.eth.get_transaction_count(wallet) == 0


def test_the_past_can_be_asked(web3):
    registry = contract(web3, "ModelRegistry").functions
    assert registry.latest().call(block_identifier=1) == 1
    assert registry.latest().call(block_identifier=0) == 0
    assert registry.latest().call() == 2


def test_batches_are_answered_in_order(web3):
    with web3.batch_requests() as batch:
        for height in (2, 0, 1):
            batch.add(web3.eth.get_block(height))
        assert [block["number"] for block in batch.execute()] == [2, 0, 1]


def test_a_client_claims_its_pay_with_its_own_key(bench):
    """eth-account signs, the node takes it, the next block holds it: nothing here has the key."""
    web3 = Web3(NodeProvider(bench.endpoint))
    claim = bench.settlement.claim(0)
    wallet = Account.from_key(CLIENT.secret)
    call = contract(web3, "Rewards").functions.claim(
        claim.round, claim.index, wallet.address, claim.amount, list(claim.path)
    )
    asked = call.build_transaction(
        {"from": wallet.address, "nonce": 0, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
    )
    sent = web3.eth.send_raw_transaction(wallet.sign_transaction(asked).raw_transaction)
    assert len(bench.pool) == 1
    raw = bench.pool.waiting()
    bench.block(*raw)
    bench.pool.forget(raw)
    receipt = web3.eth.wait_for_transaction_receipt(sent)
    assert receipt["status"] == 1
    assert receipt["gasUsed"] <= asked["gas"] < 1.1 * receipt["gasUsed"]  # it was estimated
    assert web3.eth.get_balance(wallet.address) == 30 and len(bench.pool) == 0


def test_a_stranger_may_deploy_a_contract(bench):
    """Ours are not the only ones: creation through the pool, its address in the receipt."""
    web3 = Web3(NodeProvider(bench.endpoint))
    member = Account.from_key(bench.keys[1].secret)
    votes = compiled("Votes")
    build = web3.eth.contract(abi=list(votes.abi), bytecode=votes.bytecode)
    asked = build.constructor(member.address).build_transaction(
        {"from": member.address, "nonce": bench.nonce(bench.keys[1])}
    )
    sent = web3.eth.send_raw_transaction(member.sign_transaction(asked).raw_transaction)
    bench.block(*bench.pool.waiting())
    bench.pool.forget(bench.pool.waiting())
    receipt = web3.eth.wait_for_transaction_receipt(sent)
    there = web3.eth.contract(address=receipt["contractAddress"], abi=list(votes.abi))
    assert receipt["status"] == 1 and there.functions.writer().call() == member.address


def test_who_sealed_a_block_is_told(web3, bench):
    told = web3.provider.make_request("pofel_getSeal", ["0x" + bench.node.header_at(1).hash.hex()])
    assert told["result"]["round"] == "0x1" and len(told["result"]["finals"]) == 3
    round_ = web3.provider.make_request("pofel_getRound", ["0x2"])["result"]
    assert round_["updateRoot"] == "0x" + "02" * 32 and round_["block"] == "0x2"
    assert web3.provider.make_request("pofel_getRound", ["0x7"])["result"] is None
    members = web3.provider.make_request("pofel_getMembers", [])["result"]
    assert members == ["0x" + key.node_id.hex() for key in bench.keys]
