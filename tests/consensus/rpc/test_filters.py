"""Polling filters through web3: what is new, once, and only as many as are kept."""

import pytest
from web3 import Web3
from web3.exceptions import Web3RPCError

from consensus.chain.compiler import compiled
from consensus.chain.genesis import ADDRESSES
from consensus.chain.record import RoundRecord
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.filters import MOST_FILTERS, FilterMethods
from consensus.rpc.jsonrpc import Endpoint
from consensus.rpc.provider import NodeProvider
from tests.consensus.chain.chains import Bench


@pytest.fixture
def bench():
    bench = Bench(2)
    ethereum = EthereumMethods(bench.node)
    methods = ethereum.methods() | FilterMethods(bench.node, ethereum).methods()
    bench.web3 = Web3(NodeProvider(Endpoint(methods)))
    return bench


def settle(bench, height):
    told = RoundRecord(height, bench.keys[0].node_id, bytes([height]) * 32)
    bench.block(bench.raw(bench.keys[0], "Rounds", told.call()))


def rounds(bench):
    address = Web3.to_checksum_address(ADDRESSES["Rounds"])
    return bench.web3.eth.contract(address=address, abi=list(compiled("Rounds").abi))


def test_new_blocks_are_told_once(bench):
    blocks = bench.web3.eth.filter("latest")
    assert blocks.get_new_entries() == []
    bench.block()
    bench.block()
    hashes = [bench.node.header_at(height).hash for height in (1, 2)]
    assert blocks.get_new_entries() == hashes and blocks.get_new_entries() == []


def test_new_events_are_told_once_and_all_again_on_request(bench):
    settle(bench, 1)
    events = rounds(bench).events.Settled.create_filter(from_block=0)
    assert [e["args"]["round"] for e in events.get_all_entries()] == [1]
    bench.block()
    settle(bench, 2)
    assert [e["args"]["round"] for e in events.get_new_entries()] == [2]
    assert events.get_new_entries() == []
    assert [e["args"]["round"] for e in events.get_all_entries()] == [1, 2]


def test_removed_forgotten_and_bad_filters_are_refused(bench):
    blocks = bench.web3.eth.filter("latest")
    assert bench.web3.eth.uninstall_filter(blocks.filter_id)
    with pytest.raises(Web3RPCError, match="no such filter"):
        bench.web3.eth.get_filter_changes(blocks.filter_id)
    first = bench.web3.eth.filter("latest")
    for _ in range(MOST_FILTERS):
        bench.web3.eth.filter("latest")
    with pytest.raises(Web3RPCError, match="no such filter"):
        bench.web3.eth.get_filter_changes(first.filter_id)
    with pytest.raises(Web3RPCError, match="at most four places"):
        bench.web3.eth.filter({"topics": [None] * 5})
    with pytest.raises(Web3RPCError, match="is about blocks"):
        bench.web3.eth.get_filter_logs(bench.web3.eth.filter("latest").filter_id)
