# pragma version ~=0.4.3
"""
@title Rounds: everything a round puts on the chain, in one call
"""

MAX_MEMBERS: constant(uint256) = 64
DOMAIN: constant(String[24]) = "fedalign/chain/rounds/v1"

interface Members:
    def authorised(
        sender: address, digest: bytes32, signatures: DynArray[Bytes[65], 64]
    ) -> bool: view

interface ModelRegistry:
    def record(
        round: uint256, leader: address, update_root: bytes32, start_digest: bytes32,
        layout_hash: bytes32, chunks: uint256, n_bytes: uint256
    ): nonpayable

interface Commitments:
    def record(round: uint256, root: bytes32, count: uint256, samples: uint256): nonpayable

interface Votes:
    def record(round: uint256, root: bytes32, count: uint256): nonpayable

interface Rewards:
    def pay(
        round: uint256, servers: DynArray[address, 64], amounts: DynArray[uint256, 64]
    ): nonpayable
    def post(round: uint256, root: bytes32, count: uint256, total: uint256): nonpayable

struct Facts:
    leader: address
    update_root: bytes32
    start_digest: bytes32
    layout_hash: bytes32
    chunks: uint256
    n_bytes: uint256
    commit_root: bytes32
    commits: uint256
    samples: uint256
    vote_root: bytes32
    votes: uint256
    servers: DynArray[address, MAX_MEMBERS]
    amounts: DynArray[uint256, MAX_MEMBERS]
    claims_round: uint256
    claims_root: bytes32
    claims: uint256
    claims_total: uint256

event Settled:
    round: indexed(uint256)
    leader: indexed(address)
    facts_hash: bytes32

members: public(immutable(address))
registry: public(immutable(address))
commitments: public(immutable(address))
votes: public(immutable(address))
rewards: public(immutable(address))
settled: public(HashMap[uint256, bytes32])


@deploy
def __init__(
    members_: address, registry_: address, commitments_: address, votes_: address,
    rewards_: address
):
    members = members_
    registry = registry_
    commitments = commitments_
    votes = votes_
    rewards = rewards_


@external
@view
def digest(round: uint256, facts_hash: bytes32) -> bytes32:
    """
    @notice What members sign: it fits this chain, contract and round only.
    """
    return self._digest(round, facts_hash)


@external
def settle(round: uint256, facts: Facts, signatures: DynArray[Bytes[65], MAX_MEMBERS]):
    """
    @notice Record a round. Sent by the member that wrote a sealed block, or by anyone with the
            signatures of a quorum over `digest(round, keccak256(abi_encode(facts)))`.
    """
    facts_hash: bytes32 = keccak256(abi_encode(facts))
    assert staticcall Members(members).authorised(
        msg.sender, self._digest(round, facts_hash), signatures
    ), "not authorised"
    assert self.settled[round] == empty(bytes32), "round settled"
    self.settled[round] = facts_hash
    extcall ModelRegistry(registry).record(
        round, facts.leader, facts.update_root, facts.start_digest, facts.layout_hash,
        facts.chunks, facts.n_bytes
    )
    extcall Commitments(commitments).record(
        round, facts.commit_root, facts.commits, facts.samples
    )
    if facts.votes > 0:
        extcall Votes(votes).record(round, facts.vote_root, facts.votes)
    if len(facts.servers) > 0:
        extcall Rewards(rewards).pay(round, facts.servers, facts.amounts)
    if facts.claims > 0:
        extcall Rewards(rewards).post(
            facts.claims_round, facts.claims_root, facts.claims, facts.claims_total
        )
    log Settled(round=round, leader=facts.leader, facts_hash=facts_hash)


@internal
@view
def _digest(round: uint256, facts_hash: bytes32) -> bytes32:
    return keccak256(abi_encode(keccak256(DOMAIN), chain.id, self, round, facts_hash))
