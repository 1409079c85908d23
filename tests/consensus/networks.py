"""A network behind a URL for tests: one of our nodes that seals whatever it is sent at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from consensus.chain.pool import Pool
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.jsonrpc import Endpoint
from consensus.rpc.server import ThreadedServer
from tests.consensus.chain.chains import Bench


@contextmanager
def network(rich: bytes) -> Iterator[str]:
    """Its URL. rich: an account with 100 ether."""
    bench = Bench(4, balances={rich: 10**20})
    pool = Pool(bench.node)
    methods = EthereumMethods(bench.node, pool).methods()

    def send_and_seal(raw, take=methods["eth_sendRawTransaction"]):
        name = take(raw)
        bench.block(*pool.waiting())
        pool.forget(pool.waiting())
        return name

    with ThreadedServer(Endpoint({**methods, "eth_sendRawTransaction": send_and_seal})) as server:
        yield server.url
