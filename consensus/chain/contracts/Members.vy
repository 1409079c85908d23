# pragma version ~=0.4.3
"""
@title Members: which servers may write, and when enough of them agree
@notice A quorum is floor(2n/3) + 1: two such sets share an honest server for every n.
"""

MAX_MEMBERS: constant(uint256) = 64

event Changed:
    account: indexed(address)
    active: bool
    epoch: uint256

sealed: public(immutable(bool))
epoch: public(uint256)
since: public(HashMap[address, uint256])
members: DynArray[address, MAX_MEMBERS]
positions: HashMap[address, uint256]
approved: HashMap[bytes32, HashMap[address, bool]]
approvals: public(HashMap[bytes32, uint256])


@deploy
def __init__(members: DynArray[address, MAX_MEMBERS], sealed_: bool):
    """
    @param sealed_ Whether the blocks of this chain are sealed by these members: the member that
           wrote a block may then write without signatures, as the seal carries them.
    """
    assert len(members) > 0, "a chain needs members"
    sealed = sealed_
    for account: address in members:
        self._add(account)


@external
@view
def all() -> DynArray[address, MAX_MEMBERS]:
    return self.members


@external
@view
def is_member(account: address) -> bool:
    return self.positions[account] != 0


@external
@view
def quorum() -> uint256:
    return self._quorum()


@external
def approve(account: address, active: bool):
    """
    @notice A member wants `account` added or removed; a quorum of approvals changes it.
            Approvals count within one epoch, which ends with each change.
    """
    assert self.positions[msg.sender] != 0, "only members"
    assert (self.positions[account] != 0) != active, "no change"
    change: bytes32 = keccak256(abi_encode(self.epoch, account, active))
    assert not self.approved[change][msg.sender], "approved before"
    self.approved[change][msg.sender] = True
    self.approvals[change] += 1
    if self.approvals[change] < self._quorum():
        return
    if active:
        self._add(account)
    else:
        self._remove(account)
    self.epoch += 1
    log Changed(account=account, active=active, epoch=self.epoch)


@external
@view
def authorised(
    sender: address, digest: bytes32, signatures: DynArray[Bytes[65], MAX_MEMBERS]
) -> bool:
    """
    @notice Whether `sender` may write what `digest` stands for: it wrote this sealed block, or a
            quorum of members signed. Signatures r . s . v, v in {0, 1}, signers ascending.
    """
    if sealed and sender == block.coinbase and self.positions[sender] != 0:
        return True
    if len(signatures) < self._quorum():
        return False
    last: uint256 = 0
    for signature: Bytes[65] in signatures:
        if len(signature) != 65:
            return False
        v: uint256 = convert(slice(signature, 64, 1), uint256)
        signer: address = ecrecover(
            digest, v + 27, extract32(signature, 0), extract32(signature, 32)
        )
        if self.positions[signer] == 0 or convert(signer, uint256) <= last:
            return False
        last = convert(signer, uint256)
    return True


@internal
@view
def _quorum() -> uint256:
    return 2 * len(self.members) // 3 + 1


@internal
def _add(account: address):
    assert account != empty(address) and self.positions[account] == 0, "no new account"
    self.members.append(account)
    self.positions[account] = len(self.members)
    self.since[account] = block.number


@internal
def _remove(account: address):
    """The others keep their order: choices and predictions name members by position."""
    assert len(self.members) > 1, "a chain needs members"
    place: uint256 = self.positions[account]
    count: uint256 = len(self.members)
    for i: uint256 in range(place, count, bound=MAX_MEMBERS):
        self.members[i - 1] = self.members[i]
        self.positions[self.members[i]] = i
    self.members.pop()
    self.positions[account] = 0
    self.since[account] = 0
