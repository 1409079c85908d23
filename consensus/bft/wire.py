"""Wire: BFT messages as canonical bytes.

Source: the plain-data encoding of `consensus.encoding`; the layout is ours.
"""

from __future__ import annotations

from consensus.bft.journal import plain_vote, to_vote
from consensus.bft.messages import Body, Bundle, Decision, Items, Proposal, Status, Vote
from consensus.encoding import pack, unpack
from fedalign.core.errors import DataError

MOST_PARTS = 1 << 16  # of a bundle or certificate


def to_bytes(body: Body) -> bytes:
    """One message; `from_bytes` gives it back."""
    if isinstance(body, Vote):
        return pack(("v", *plain_vote(body)))
    if isinstance(body, Proposal):
        return pack(("p", *body))
    if isinstance(body, Decision):
        return pack(("d", *body[:3], tuple(map(plain_vote, body.certificate))))
    if isinstance(body, Bundle):
        return pack(("b", tuple(map(tuple, body.proposals)), tuple(map(plain_vote, body.votes))))
    if isinstance(body, Items):
        return pack(("i", body.data))
    return pack(("s", body.height))


def from_bytes(data: bytes) -> Body:
    """The message in `data`, with fields of the right types; DataError if it is anything else."""
    try:
        kind, *fields = unpack(data)
        return _READERS[kind](*fields)
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise DataError(f"{len(data)} bytes hold no BFT message: {error!r}.") from error


def _vote(*fields) -> Vote:
    if len(fields) != 7:
        raise ValueError("a vote has 7 fields")
    step, height, round, digest, pol_round, voter, signature = fields
    _demand(int, step, height, round, pol_round, voter)
    _demand(bytes, digest, signature)
    return to_vote(fields)


def _proposal(height, round, batch, pol_round, proposer, signature) -> Proposal:
    _demand(int, height, round, pol_round, proposer)
    _demand(bytes, signature, *_parts(batch))
    return Proposal(height, round, batch, pol_round, proposer, signature)


def _decision(height, round, batch, certificate) -> Decision:
    _demand(int, height, round)
    _demand(bytes, *_parts(batch))
    return Decision(height, round, batch, tuple(_vote(*vote) for vote in _parts(certificate)))


def _bundle(proposals, votes) -> Bundle:
    return Bundle(
        tuple(_proposal(*one) for one in _parts(proposals)),
        tuple(_vote(*one) for one in _parts(votes)),
    )


def _items(data) -> Items:
    _demand(bytes, *_parts(data))
    return Items(data)


def _status(height) -> Status:
    _demand(int, height)
    return Status(height)


_READERS = {
    "v": _vote, "p": _proposal, "d": _decision, "b": _bundle, "i": _items, "s": _status,
}  # fmt: skip


def _parts(value) -> tuple:
    if not isinstance(value, tuple) or len(value) > MOST_PARTS:
        raise ValueError("a sequence was expected")
    return value


def _demand(kind: type, *values) -> None:
    for value in values:
        if type(value) is not kind:
            raise ValueError(f"{kind.__name__} was expected, {type(value).__name__} found")
