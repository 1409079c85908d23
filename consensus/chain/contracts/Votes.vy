# pragma version ~=0.4.3
"""
@title Votes: who voted for whom and how the vote was scored, one root per round
"""

import proofs

struct Batch:
    root: bytes32
    count: uint256

event Recorded:
    round: indexed(uint256)
    root: bytes32
    count: uint256

writer: public(immutable(address))
batches: public(HashMap[uint256, Batch])


@deploy
def __init__(writer_: address):
    writer = writer_


@external
def record(round: uint256, root: bytes32, count: uint256):
    assert msg.sender == writer, "only the writer"
    assert self.batches[round].root == empty(bytes32), "round settled"
    self.batches[round] = Batch(root=root, count=count)
    log Recorded(round=round, root=root, count=count)


@external
@view
def voted(
    round: uint256, node: address, choice: uint256, prediction_hash: bytes32, score: int256,
    weight: uint256, index: uint256, path: DynArray[bytes32, 32]
) -> bool:
    """
    @notice Whether `node` is entry `index` of the round's votes, with these contents: score in
            micro-nats, weight in ppm, the prediction as the sha256 of its encoding.
    """
    leaf: bytes32 = sha256(
        concat(b"\x00", abi_encode(node, choice, prediction_hash, score, weight))
    )
    batch: Batch = self.batches[round]
    return proofs.leads_to(batch.root, leaf, index, batch.count, path)
