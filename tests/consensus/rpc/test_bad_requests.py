"""Whatever a caller sends: an answer in JSON-RPC form, and the chain goes on."""

import json
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.chain.pool import MOST_AHEAD, Pool
from consensus.chain.transactions import signed
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.filters import FilterMethods
from consensus.rpc.jsonrpc import (
    INTERNAL,
    INVALID,
    PARAMS,
    PARSE,
    REFUSED,
    REVERTED,
    TOO_MUCH,
    UNKNOWN,
    Endpoint,
)
from consensus.rpc.rounds import RoundMethods
from consensus.rpc.server import MOST_BYTES, ThreadedServer
from fedalign.core.errors import ConfigError
from tests.consensus.chain.chains import Bench


@pytest.fixture(scope="module")
def bench():
    bench = Bench(4)
    bench.block()
    bench.pool = Pool(bench.node)
    ethereum = EthereumMethods(bench.node, bench.pool, call_gas=300_000)
    filters = FilterMethods(bench.node, ethereum).methods()
    methods = ethereum.methods() | RoundMethods(bench.node).methods() | filters
    bench.endpoint = Endpoint(methods, 20)
    return bench


def ask(bench, method, *params):
    request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    answer = json.loads(bench.endpoint.answer(json.dumps(request).encode()))
    assert answer["id"] == 7 and ("error" in answer) != ("result" in answer)
    return answer


def code(answer):
    return answer["error"]["code"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", PARSE),
        (b"{", PARSE),
        (b"\xff\xfe\xfd", PARSE),
        (b"[" * 100_000, PARSE),
        (b'{"a":' * 50_000, PARSE),
        (b"[]", INVALID),
        (b"7", INVALID),
        (b"null", INVALID),
        (b'{"id": 1}', INVALID),
        (b'{"id": 1, "method": 5}', INVALID),
        (b'{"id": [], "method": "eth_chainId"}', INVALID),
        (b'{"id": 1, "method": "eth_sign", "params": []}', UNKNOWN),
        (b'{"id": 1, "method": "__class__", "params": []}', UNKNOWN),
        (b'{"id": 1, "method": "eth_chainId", "params": {}}', PARAMS),
        (b'{"id": 1, "method": "eth_chainId", "params": [1]}', PARAMS),
        (b'{"id": 1, "method": "eth_getBalance", "params": []}', PARAMS),
    ],
)
def test_malformed_requests_get_their_code(bench, body, told):
    assert code(json.loads(bench.endpoint.answer(body))) == told


@pytest.mark.parametrize(
    ("method", "params", "told"),
    [
        ("eth_getBalance", ["0x12"], PARAMS),
        ("eth_getBalance", [{}], PARAMS),
        ("eth_getBalance", ["0x" + "11" * 20, "0x99"], REFUSED),
        ("eth_getBlockByNumber", ["first"], PARAMS),
        ("eth_getBlockByNumber", ["0x" + "f" * 90], PARAMS),
        ("eth_getBlockByHash", ["0x00"], PARAMS),
        ("eth_getStorageAt", ["0x" + "11" * 20, "zero"], PARAMS),
        ("eth_call", ["text"], PARAMS),
        ("eth_call", [{"to": "0x" + "11" * 19}], PARAMS),
        ("eth_call", [{"to": "0x" + "11" * 20, "value": "-5"}], PARAMS),
        ("eth_getLogs", [[]], PARAMS),
        ("eth_getLogs", [{"topics": [None] * 5}], PARAMS),
        ("eth_getLogs", [{"blockHash": "0x" + "00" * 32}], REFUSED),
        ("eth_feeHistory", ["0x0", "latest"], PARAMS),
        ("eth_sendRawTransaction", ["0x1234"], REFUSED),
        ("eth_sendRawTransaction", ["hello"], PARAMS),
        ("pofel_getRound", [None], PARAMS),
        ("pofel_getSeal", ["0x11"], PARAMS),
    ],
)
def test_bad_params_say_what_was_asked_for(bench, method, params, told):
    answer = ask(bench, method, *params)
    assert code(answer) == told and len(answer["error"]["message"]) > 20


def test_what_is_not_there_is_null(bench):
    nowhere = "0x" + "ab" * 32
    for method, params in (
        ("eth_getBlockByNumber", ["0x99", False]),
        ("eth_getBlockByHash", [nowhere, True]),
        ("eth_getTransactionByHash", [nowhere]),
        ("eth_getTransactionReceipt", [nowhere]),
        ("eth_getBlockReceipts", ["0x99"]),
        ("eth_getTransactionByBlockNumberAndIndex", ["0x1", "0x5"]),
        ("pofel_getSeal", [nowhere]),
    ):
        assert ask(bench, method, *params)["result"] is None


def test_nothing_that_signs_is_reachable(bench):
    names = set(bench.endpoint.methods)
    assert ask(bench, "eth_accounts")["result"] == []
    for name in ("eth_sign", "eth_sendTransaction", "eth_signTransaction", "personal_unlockAccount",
                 "personal_sign", "eth_signTypedData_v4", "admin_nodeInfo", "miner_start"):  # fmt: skip
        assert name not in names and code(ask(bench, name)) == UNKNOWN


def test_an_endless_call_ends_with_its_gas(bench):
    """JUMPDEST PUSH0 JUMP as creation code: 300,000 gas, then an error, not a hanging node."""
    answer = ask(bench, "eth_call", {"data": "0x5b5f56"})
    assert code(answer) == REFUSED and "gas" in answer["error"]["message"].lower()


def test_reverts_carry_their_data(bench):
    registry = "0x" + "fed0" + "00" * 17 + "03"
    from tests.consensus.chain.chains import interface

    call = interface("ModelRegistry").call("model", 99)
    error = ask(bench, "eth_call", {"to": registry, "data": "0x" + call.hex()})["error"]
    assert error["code"] == REVERTED and error["message"].endswith("no such round")
    assert error["data"].startswith("0x08c379a0")


def test_a_batch_is_answered_one_by_one_and_bounded(bench):
    def one(i, method="eth_chainId"):
        return {"jsonrpc": "2.0", "id": i, "method": method, "params": []}

    mixed = [one(0), 5, one(2, "nonsense"), {"jsonrpc": "2.0", "method": "eth_chainId"}, one(4)]
    answers = json.loads(bench.endpoint.answer(json.dumps(mixed).encode()))
    assert [a["id"] for a in answers] == [0, None, 2, 4]
    assert [a.get("error", {}).get("code") for a in answers] == [None, INVALID, UNKNOWN, None]
    too_many = json.dumps([one(i) for i in range(21)]).encode()
    assert code(json.loads(bench.endpoint.answer(too_many))) == INVALID
    silent = json.dumps({"jsonrpc": "2.0", "method": "eth_chainId", "params": []}).encode()
    assert bench.endpoint.answer(silent) == b""


def test_a_defect_of_ours_is_an_answer_too():
    def broken():
        raise ZeroDivisionError("secret detail")

    answer = json.loads(Endpoint({"x": broken}).answer(b'{"id": 1, "method": "x"}'))
    assert code(answer) == INTERNAL and "secret" not in answer["error"]["message"]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(["0x", "0x1", "latest", "0x" + "11" * 20, "0x" + "11" * 32]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["to", "data", "from", "gas", "value", "address", "topics", "fromBlock",
                         "toBlock", "blockHash"]), inner, max_size=4),
    max_leaves=8,
), st.data())  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_params_whatever_break_a_method(bench, params, data):
    """Every error is one we meant: never INTERNAL."""
    method = data.draw(st.sampled_from(sorted(bench.endpoint.methods)))
    params = params if isinstance(params, list) else [params]
    answer = ask(bench, method, *params)
    assert "result" in answer or code(answer) != INTERNAL, answer


# ---------------------------------------------------------------- the pool


def test_the_pool_refuses_what_no_block_can_hold(bench):
    key, chain = bench.keys[2], bench.node.genesis.chain_id

    def send(**change):
        told = {"chain_id": chain, "nonce": 0, "to": bytes(20), "gas": 21_000, **change}
        return ask(bench, "eth_sendRawTransaction", "0x" + signed(key, **told).hex())

    for change, why in (
        ({"chain_id": chain + 1}, f"for chain {chain + 1}, this is {chain}"),
        ({"nonce": MOST_AHEAD}, f"next nonce is 0, got {MOST_AHEAD}"),
        ({"value": 10**25}, "its sender has"),
        ({"gas": 10**9}, "a block 60000000 gas"),
        ({"data": bytes(200_000)}, "at most 131072 bytes"),
    ):
        answer = send(**change)
        assert code(answer) == REFUSED and why in answer["error"]["message"], answer
    assert len(bench.pool) == 0
    good = send()["result"]
    assert send()["result"] == good and len(bench.pool) == 1  # twice is once
    second = signed(key, chain_id=chain, nonce=2, to=bytes(20), gas=21_000)
    first = signed(key, chain_id=chain, nonce=1, to=bytes(20), gas=21_000)
    bench.pool.add(second)
    bench.pool.add(first)
    assert bench.pool.waiting()[1:] == (first, second)
    bench.pool.forget([*bench.pool.waiting()])
    assert len(bench.pool) == 0


# ---------------------------------------------------------------- over HTTP


def post(url, body):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


CHAIN_ID = b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}'


def test_huge_bodies_and_other_methods_are_refused(bench):
    with ThreadedServer(bench.endpoint) as server:
        status, body = post(server.url, b"[" + b" " * MOST_BYTES + b"]")
        assert status == 413 and code(json.loads(body)) == INVALID
        with pytest.raises(HTTPError, match="405"):
            urllib.request.urlopen(server.url)
        assert post(server.url, b"junk")[0] == 200
        assert json.loads(post(server.url, CHAIN_ID)[1])["result"] == "0x200cd"


def test_it_listens_on_the_loopback_interface_only(bench):
    with ThreadedServer(bench.endpoint) as server:
        port = int(server.url.rsplit(":", 1)[1])
        assert server.url.startswith("http://127.0.0.1:")
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))  # free: nobody took all interfaces
        with (
            pytest.raises(ConfigError, match="cannot listen"),
            ThreadedServer(bench.endpoint, port=port),
        ):
            pass


def test_many_requests_at_once_and_the_chain_goes_on(bench):
    """Six callers, 300 requests; blocks are imported meanwhile, and every answer is a good one."""
    before = bench.node.height
    with ThreadedServer(bench.endpoint) as server, ThreadPoolExecutor(6) as callers:
        latest = CHAIN_ID.replace(b"eth_chainId", b"eth_blockNumber")
        jobs = [callers.submit(post, server.url, latest) for _ in range(300)]
        for _ in range(20):
            bench.block()
        heights = [int(json.loads(job.result()[1])["result"], 16) for job in jobs]
    assert bench.node.height == before + 20
    assert all(before <= height <= before + 20 for height in heights)


def test_more_than_the_queue_holds_is_told_so(bench, monkeypatch):
    monkeypatch.setattr("consensus.rpc.server.MOST_WAITING", 0)
    with ThreadedServer(bench.endpoint) as server:
        status, body = post(server.url, CHAIN_ID)
    assert status == 429 and code(json.loads(body)) == TOO_MUCH


@pytest.mark.slow
def test_ten_thousand_requests(bench):
    with ThreadedServer(bench.endpoint) as server, ThreadPoolExecutor(8) as callers:
        jobs = [callers.submit(post, server.url, CHAIN_ID) for _ in range(10_000)]
        bench.block()
        assert all(json.loads(job.result()[1])["result"] == "0x200cd" for job in jobs)
