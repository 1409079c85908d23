# pragma version ~=0.4.3
"""
@title Rewards: an escrow that pays servers at once and clients against a Merkle root
@notice Whole wei; what is funded is what is in escrow, reserved for claims, owed and paid.
"""

import proofs

MAX_MEMBERS: constant(uint256) = 64
GAS_FOR_RECEIVER: constant(uint256) = 10_000

struct Claims:
    root: bytes32
    count: uint256
    total: uint256
    open: uint256

event Funded:
    publisher: indexed(address)
    amount: uint256

event Paid:
    round: indexed(uint256)
    account: indexed(address)
    amount: uint256

event Posted:
    round: indexed(uint256)
    root: bytes32
    total: uint256

writer: public(immutable(address))
escrow: public(uint256)
owed: public(HashMap[address, uint256])
claims: public(HashMap[uint256, Claims])
paid: HashMap[uint256, bool]
claimed: HashMap[uint256, HashMap[uint256, bool]]


@deploy
@payable
def __init__(writer_: address):
    writer = writer_
    self.escrow = msg.value


@external
@payable
def fund():
    """
    @notice A publisher adds to the escrow that rounds are paid from.
    """
    self.escrow += msg.value
    log Funded(publisher=msg.sender, amount=msg.value)


@external
@nonreentrant
def pay(
    round: uint256, servers: DynArray[address, MAX_MEMBERS],
    amounts: DynArray[uint256, MAX_MEMBERS]
):
    """
    @notice Pay a round's servers. A server that cannot receive is owed the amount.
    """
    assert msg.sender == writer, "only the writer"
    assert not self.paid[round], "round paid"
    assert len(servers) == len(amounts), "one amount per server"
    self.paid[round] = True
    total: uint256 = 0
    for amount: uint256 in amounts:
        total += amount
    assert total <= self.escrow, "escrow too small"
    self.escrow -= total
    for i: uint256 in range(len(servers), bound=MAX_MEMBERS):
        self._send(round, servers[i], amounts[i])


@external
def post(round: uint256, root: bytes32, count: uint256, total: uint256):
    """
    @notice Reserve a round's pay of the clients, who claim it.
    """
    assert msg.sender == writer, "only the writer"
    assert self.claims[round].count == 0, "round posted"
    assert count > 0, "nothing to claim"
    assert total <= self.escrow, "escrow too small"
    self.escrow -= total
    self.claims[round] = Claims(root=root, count=count, total=total, open=total)
    log Posted(round=round, root=root, total=total)


@external
@nonreentrant
def claim(
    round: uint256, index: uint256, account: address, amount: uint256,
    path: DynArray[bytes32, 32]
):
    """
    @notice Pay entry `index` of a round to its account; anyone may send this for it.
    """
    found: Claims = self.claims[round]
    leaf: bytes32 = sha256(concat(b"\x00", abi_encode(account, amount)))
    assert proofs.leads_to(found.root, leaf, index, found.count, path), "no such claim"
    assert not self.claimed[round][index], "claimed before"
    assert amount <= found.open, "round exhausted"
    self.claimed[round][index] = True
    self.claims[round].open = found.open - amount
    self._send(round, account, amount)


@external
@view
def is_claimed(round: uint256, index: uint256) -> bool:
    return self.claimed[round][index]


@external
@nonreentrant
def withdraw():
    """
    @notice Fetch what could not be delivered.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "nothing owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)


@internal
def _send(round: uint256, account: address, amount: uint256):
    if amount == 0:
        return
    delivered: bool = raw_call(
        account, b"", value=amount, gas=GAS_FOR_RECEIVER, revert_on_failure=False
    )
    if not delivered:
        self.owed[account] += amount
    log Paid(round=round, account=account, amount=amount)
