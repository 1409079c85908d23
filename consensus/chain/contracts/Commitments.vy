# pragma version ~=0.4.3
"""
@title Commitments: who had committed to which model, one root per round
@notice Servers check signatures when they order the messages, so a root suffices; `submit` checks
        the same signatures once more, here, and keeps every commitment by itself.
"""

import proofs

MAX_MEMBERS: constant(uint256) = 64
MAX_BODY: constant(uint256) = 96

interface Members:
    def all() -> DynArray[address, 64]: view

struct Batch:
    root: bytes32
    count: uint256
    samples: uint256

event Recorded:
    round: indexed(uint256)
    root: bytes32
    count: uint256

event Submitted:
    round: indexed(uint256)
    node: indexed(address)
    commitment: bytes32

writer: public(immutable(address))
members: public(immutable(address))
batches: public(HashMap[uint256, Batch])
single: public(HashMap[uint256, HashMap[address, bytes32]])


@deploy
def __init__(writer_: address, members_: address):
    writer = writer_
    members = members_


@external
def record(round: uint256, root: bytes32, count: uint256, samples: uint256):
    assert msg.sender == writer, "only the writer"
    assert self.batches[round].root == empty(bytes32), "round settled"
    self.batches[round] = Batch(root=root, count=count, samples=samples)
    log Recorded(round=round, root=root, count=count)


@external
def submit(
    round: uint256, places: DynArray[uint256, MAX_MEMBERS],
    bodies: DynArray[Bytes[MAX_BODY], MAX_MEMBERS],
    signatures: DynArray[Bytes[65], MAX_MEMBERS]
):
    """
    @notice Keep members' COMMIT messages of an open round, each with its own signature; anyone may
            send them, and a member's first one stays.
    @param places Who: positions among the members.
    @param bodies The canonical encoding of (commitment, size, parent, time).
    @param signatures r . s . v, v in {0, 1}, as the members sign the message to each other.
    """
    assert self.batches[round].root == empty(bytes32), "round settled"
    assert len(places) == len(bodies) and len(places) == len(signatures), "one of each per member"
    nodes: DynArray[address, MAX_MEMBERS] = staticcall Members(members).all()
    prefix: Bytes[59] = concat(  # domain, chain, round, view and the length of a node id
        b"\x00\x00\x00\x1ffedalign/pofel/commit/signed/v1",
        slice(convert(chain.id, bytes32), 24, 8),
        slice(convert(round, bytes32), 24, 8),
        b"\x00\x00\x00\x00\x00\x00\x00\x14"
    )
    for i: uint256 in range(len(places), bound=MAX_MEMBERS):
        node: address = nodes[places[i]]
        body: Bytes[MAX_BODY] = bodies[i]
        signature: Bytes[65] = signatures[i]
        assert self.single[round][node] == empty(bytes32), "committed before"
        assert len(signature) == 65, "forged"
        digest: bytes32 = sha256(
            concat(
                prefix, convert(node, bytes20), slice(convert(len(body), bytes32), 28, 4), body
            )
        )
        v: uint256 = convert(slice(signature, 64, 1), uint256)
        signer: address = ecrecover(
            digest, v + 27, extract32(signature, 0), extract32(signature, 32)
        )
        assert signer == node, "forged"
        commitment: bytes32 = self._commitment(body)
        self.single[round][node] = commitment
        log Submitted(round=round, node=node, commitment=commitment)


@external
@view
def committed(
    round: uint256, node: address, commitment: bytes32, size: uint256,
    index: uint256, path: DynArray[bytes32, 32]
) -> bool:
    """
    @notice Whether `node` is entry `index` of the round's commitments, with these contents.
    """
    leaf: bytes32 = sha256(concat(b"\x00", abi_encode(node, commitment, size)))
    batch: Batch = self.batches[round]
    return proofs.leads_to(batch.root, leaf, index, batch.count, path)


@internal
@pure
def _commitment(body: Bytes[MAX_BODY]) -> bytes32:
    """The first field: f8, the length, a0, 32 bytes. Zeros come from a server without a model."""
    assert len(body) > 44, "no commitment"
    assert slice(body, 0, 1) == b"\xf8" and slice(body, 2, 1) == b"\xa0", "no commitment"
    commitment: bytes32 = extract32(body, 3)
    assert commitment != empty(bytes32), "no commitment"
    return commitment
