# pragma version ~=0.4.3
"""
@title ModelRegistry: which model each round made
"""

import proofs

struct Model:
    leader: address
    update_root: bytes32
    start_digest: bytes32
    layout_hash: bytes32
    chunks: uint256
    n_bytes: uint256
    block_number: uint256

event Recorded:
    round: indexed(uint256)
    update_root: indexed(bytes32)
    leader: indexed(address)

writer: public(immutable(address))
latest: public(uint256)
models: HashMap[uint256, Model]


@deploy
def __init__(writer_: address):
    writer = writer_


@external
def record(
    round: uint256, leader: address, update_root: bytes32, start_digest: bytes32,
    layout_hash: bytes32, chunks: uint256, n_bytes: uint256
):
    assert msg.sender == writer, "only the writer"
    assert round > self.latest, "round settled"
    self.latest = round
    self.models[round] = Model(
        leader=leader, update_root=update_root, start_digest=start_digest,
        layout_hash=layout_hash, chunks=chunks, n_bytes=n_bytes, block_number=block.number
    )
    log Recorded(round=round, update_root=update_root, leader=leader)


@external
@view
def model(round: uint256) -> Model:
    assert self.models[round].block_number != 0, "no such round"
    return self.models[round]


@external
@view
def verify_chunk(
    round: uint256, index: uint256, leaf: bytes32, path: DynArray[bytes32, 32]
) -> bool:
    """
    @notice Whether a chunk with this leaf hash is chunk `index` of the round's aggregate update.
    """
    found: Model = self.models[round]
    return proofs.leads_to(found.update_root, leaf, index, found.chunks, path)
