"""HCDS: commit to a model by a hash that binds server, round and chain; open it later.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (hash-based commitment and digital
signature); what the hash holds and in which order is our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.identity import prefixed
from consensus.work import sha256

COMMIT_DOMAIN, VOTE_DOMAIN = b"fedalign/pofel/commit/v1", b"fedalign/pofel/vote/v1"
ABSENT = bytes(32)  # the commitment of a live server without a model


def commit(chain_id: int, round_: int, node_id: bytes, model_root: bytes, nonce: bytes) -> bytes:
    """32 bytes c_e; nonce: 32 random bytes that stay secret until the reveal."""
    return sha256(
        _place(COMMIT_DOMAIN, chain_id, round_, node_id) + prefixed(model_root) + prefixed(nonce)
    )


def open_ok(
    c: bytes, chain_id: int, round_: int, node_id: bytes, model_root: bytes, nonce: bytes
) -> bool:
    """Whether (model_root, nonce) is what this server committed to in this round."""
    return len(nonce) == 32 and c == commit(chain_id, round_, node_id, model_root, nonce)


def commit_vote(
    chain_id: int,
    round_: int,
    node_id: bytes,
    choice: int,
    prediction_ppm: Sequence[int],
    nonce: bytes,
) -> bytes:
    """32 bytes: a vote hidden until all votes are in; the server's id inside stops copying."""
    body = choice.to_bytes(2, "big") + b"".join(p.to_bytes(4, "big") for p in prediction_ppm)
    place = _place(VOTE_DOMAIN, chain_id, round_, node_id)
    return sha256(place + body + nonce)


def _place(domain: bytes, chain_id: int, round_: int, node_id: bytes) -> bytes:
    where = chain_id.to_bytes(8, "big") + round_.to_bytes(8, "big")
    return prefixed(domain) + where + prefixed(node_id)
