"""Provider: web3.py on a node in the same process, without a socket in between.

Source: web3.py 8, `JSONBaseProvider`. Requests and answers go through the same JSON as over HTTP, so
a program behaves alike on both.
"""

from __future__ import annotations

from typing import Any

from web3.providers.base import JSONBaseProvider

from consensus.rpc.jsonrpc import Endpoint


class NodeProvider(JSONBaseProvider):
    """`Web3(NodeProvider(endpoint))`."""

    def __init__(self, endpoint: Endpoint, **options: Any):
        super().__init__(**options)
        self._endpoint = endpoint

    def make_request(self, method: Any, params: Any) -> Any:
        """One request."""
        asked = self.encode_rpc_request(method, params)
        return self.decode_rpc_response(self._endpoint.answer(asked))

    def make_batch_request(self, requests: list[tuple[Any, Any]]) -> Any:
        """Several at once, answered in their order."""
        asked = self.encode_batch_rpc_request(requests)
        return self.decode_rpc_response(self._endpoint.answer(asked))
