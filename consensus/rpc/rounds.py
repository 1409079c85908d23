"""Rounds: methods beside Ethereum's, for what only our chains know.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (seals and rounds); models by their root are our
derivation.
"""

from __future__ import annotations

from typing import Any

from consensus.chain.node import ChainNode
from consensus.chain.store import ModelStore
from consensus.rpc.formats import data, number, octets, quantity
from consensus.rpc.jsonrpc import REFUSED, Method, RpcError
from fedalign.core.errors import DataError


class RoundMethods:
    """Seals, members and rounds of `node`; chunks of the models in `store`, if there is one."""

    def __init__(self, node: ChainNode, store: ModelStore | None = None):
        self._node, self._store = node, store

    def methods(self) -> dict[str, Method]:
        found = {
            "pofel_getMembers": self.members,
            "pofel_getSeal": self.seal,
            "pofel_getRound": self.round,
        }
        if self._store is None:
            return found
        return found | {
            "cas_getManifest": self.manifest,
            "cas_getChunk": self.chunk,
            "cas_getProof": self.proof,
        }

    def members(self) -> Any:
        """The members at the head, in order of position."""
        return [data(member) for member in self._node.members_at(self._node.head)]

    def seal(self, header_hash: Any) -> Any:
        """Who made a block final: round, rank, the author's signature and the FINAL messages."""
        seal = self._node.seal_of(octets(header_hash, 32))
        if seal is None:
            return None
        return {
            "round": quantity(seal.round),
            "rank": quantity(seal.rank),
            "leaderSignature": data(seal.leader),
            "finals": [
                {"signer": data(final.sender), "signature": data(final.signature)}
                for final in seal.finals.finals
            ],
        }

    def round(self, which: Any) -> Any:
        """What the contracts keep of a round; null where it is not settled."""
        height, read = number(which), self._node.read
        try:
            model = read("ModelRegistry", "model", height)
        except DataError:
            return None
        leader, update, start, layout, chunks, n_bytes, block = model
        commits, votes = read("Commitments", "batches", height), read("Votes", "batches", height)
        claims = read("Rewards", "claims", height)
        return {
            "leader": leader,
            "updateRoot": data(update),
            "startDigest": data(start),
            "layoutHash": data(layout),
            "chunks": quantity(chunks),
            "bytes": quantity(n_bytes),
            "block": quantity(block),
            "commitments": {"root": data(commits[0]), "count": quantity(commits[1])},
            "votes": {"root": data(votes[0]), "count": quantity(votes[1])},
            "claims": {
                "root": data(claims[0]),
                "count": quantity(claims[1]),
                "total": quantity(claims[2]),
                "open": quantity(claims[3]),
            },
        }

    def manifest(self, root: Any) -> Any:
        return data(self._held().manifest(octets(root, 32)).encode())

    def chunk(self, root: Any, index: Any) -> Any:
        return data(self._held().chunk(octets(root, 32), number(index)))

    def proof(self, root: Any, index: Any) -> Any:
        return [data(part) for part in self._held().proof(octets(root, 32), number(index))]

    def _held(self) -> ModelStore:
        if self._store is None:
            raise RpcError(REFUSED, "This node keeps no models.")
        return self._store
