# pragma version ~=0.4.3
"""
@title Commitments: who had committed to which model, one root per round
"""

import proofs

struct Batch:
    root: bytes32
    count: uint256
    samples: uint256

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
def record(round: uint256, root: bytes32, count: uint256, samples: uint256):
    assert msg.sender == writer, "only the writer"
    assert self.batches[round].root == empty(bytes32), "round settled"
    self.batches[round] = Batch(root=root, count=count, samples=samples)
    log Recorded(round=round, root=root, count=count)


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
