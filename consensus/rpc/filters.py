"""Filters: what is new since a client asked last.

Source: the Ethereum execution API (EIP-1474), polling filters.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from consensus.chain.node import ChainNode
from consensus.rpc.ethereum import EthereumMethods
from consensus.rpc.formats import data, quantity
from consensus.rpc.jsonrpc import REFUSED, Method, RpcError

MOST_FILTERS = 256
MOST_AT_ONCE = 10_000


@dataclass
class _Filter:
    """wanted: a log filter, or None for blocks. seen: up to which height it was asked."""

    wanted: dict[str, Any] | None
    seen: int


class FilterMethods:
    """Filters on `node`; beyond 256 the one that was asked least recently is forgotten."""

    def __init__(self, node: ChainNode, ethereum: EthereumMethods):
        self._node, self._ethereum = node, ethereum
        self._filters: OrderedDict[str, _Filter] = OrderedDict()

    def methods(self) -> dict[str, Method]:
        return {
            "eth_newFilter": self.new_filter,
            "eth_newBlockFilter": lambda: self._keep(None),
            "eth_getFilterChanges": self.changes,
            "eth_getFilterLogs": self.logs,
            "eth_uninstallFilter": lambda name: self._filters.pop(str(name), None) is not None,
        }

    def new_filter(self, wanted: Any) -> Any:
        self._ethereum.logs(wanted)  # refuses what it could not answer later
        return self._keep(wanted)

    def changes(self, name: Any) -> Any:
        """Logs, or block hashes, since the last time; at most 10,000 blocks at once."""
        found = self._named(name)
        first, last = found.seen + 1, min(self._node.height, found.seen + MOST_AT_ONCE)
        if first > last:
            return []
        if found.wanted is None:
            told = [data(self._node.header_at(h).hash) for h in range(first, last + 1)]
        else:
            span = {"fromBlock": quantity(first), "toBlock": quantity(last)}
            told = self._ethereum.logs({**found.wanted, **span})
        found.seen = last
        return told

    def logs(self, name: Any) -> Any:
        found = self._named(name)
        if found.wanted is None:
            raise RpcError(REFUSED, "This filter is about blocks: ask for its changes.")
        return self._ethereum.logs(found.wanted)

    def _keep(self, wanted: dict[str, Any] | None) -> str:
        name = quantity(secrets.randbits(63))
        self._filters[name] = _Filter(wanted, self._node.height)
        if len(self._filters) > MOST_FILTERS:
            self._filters.popitem(last=False)
        return name

    def _named(self, name: Any) -> _Filter:
        if str(name) not in self._filters:
            raise RpcError(REFUSED, "There is no such filter: it was removed, or forgotten.")
        self._filters.move_to_end(str(name))
        return self._filters[str(name)]
