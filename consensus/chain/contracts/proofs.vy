# pragma version ~=0.4.3
"""
@title Proofs: whether a leaf belongs to a Merkle root
@notice Laurie, Langley, Kasper, "Certificate Transparency", RFC 6962, Section 2.1; the walk is
        RFC 9162, Section 2.1.3.2. Leaves are sha256(0x00 . data), nodes sha256(0x01 . left . right).
"""


@internal
@pure
def leads_to(
    root: bytes32, leaf: bytes32, index: uint256, count: uint256, path: DynArray[bytes32, 32]
) -> bool:
    """Whether `path`, lowest sibling first, leads from leaf `index` of `count` to the root."""
    if index >= count:
        return False
    hashed: bytes32 = leaf
    at: uint256 = index
    last: uint256 = count - 1
    for sibling: bytes32 in path:
        if last == 0:
            return False
        if at & 1 == 1 or at == last:
            hashed = sha256(concat(b"\x01", sibling, hashed))
            for level: uint256 in range(256):
                if at & 1 == 1 or at == 0:
                    break
                at >>= 1
                last >>= 1
        else:
            hashed = sha256(concat(b"\x01", hashed, sibling))
        at >>= 1
        last >>= 1
    return last == 0 and hashed == root
