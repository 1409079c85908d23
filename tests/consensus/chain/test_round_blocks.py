"""PoFEL rounds whose blocks run on the EVM: the leader packs, the others execute, a quorum seals."""

from dataclasses import dataclass, field, replace

import pytest
import rlp

from consensus.chain.genesis import Genesis
from consensus.chain.node import ChainNode
from consensus.chain.record import Ballots, RoundRecord, prediction_hash
from consensus.chain.round_blocks import RoundBlocks
from consensus.chain.settlement import Settlement
from consensus.pofel import effects as fx
from consensus.pofel import merkle
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Block, Entry, Final
from consensus.pofel.plain import PlainMachine
from consensus.pofel.state import Phase
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.core.market import Payments
from tests.consensus.chain.chains import Bench
from tests.consensus.pofel.servers import CHAIN, CHECK, Servers, near, nodes, reasons, settings


@dataclass
class ChainServers(Servers):
    """Servers with a chain: `payments` are the clients' of the round before."""

    faults: str = "byzantine"
    payments: Payments = Payments()
    chain: ChainNode = field(init=False)
    blocks: RoundBlocks = field(init=False)

    def __post_init__(self):
        super().__post_init__()
        genesis = Genesis(self.settings.members, chain_id=CHAIN, faults=self.faults)
        self.chain = ChainNode(genesis, check=CHECK)
        self.blocks = RoundBlocks(self.chain, self.record)
        self.settings = replace(self.settings, head=self.chain.head.hash, head_time_s=0)
        kind = PlainMachine if self.plain else RoundMachine
        self.machine = kind(self.settings, check=CHECK, check_payload=self.blocks.refusal)

    def record(self, block, outcome, author):
        claims = Settlement.of(block.height - 1, self.payments, lambda c: bytes([c]) * 20).claims
        return RoundRecord.of(self.state, self.settings, outcome, author, claims=claims)

    def proposal(self, i):
        empty = Block(0, bytes(32), 0, bytes(32), b"", bytes(32))
        if self.machine.stalls(self._signed(i, empty)):
            self.machine.provide(self.evaluated())
        block = self.machine.proposal(self.settings.members[i])
        outcome = self.machine._outcome(self.settings.members[i])
        return self.blocks.fill(block, outcome, self.keys[i])

    def block(self, i, seal=True, **lies):
        block = replace(self.proposal(i), **lies)
        round_, rank = self.state.round, self.state.rank
        found = self.order(self._signed(i, block))
        if seal and any(isinstance(e, fx.ImportBlock) for e in found):
            self.keep(block, i, round_, rank)
        return found

    def keep(self, block, i, round_, rank, signers=None):
        needs = self.chain.genesis.needs(len(self.settings.members))
        finals = [
            Entry.sign(key, CHAIN, round_, Final(rank, block.header_hash))
            for key in self.keys[: needs if signers is None else signers]
        ]
        leader = self.blocks.lead(block, self.keys[i], round_, rank)
        self.blocks.keep(block, round_=round_, rank=rank, leader=leader, finals=finals)


def servers(n=4, **more):
    return ChainServers(settings(n), models={i: near(i) for i in range(n)}, **more)


def ready(**more):
    return servers(**more).until(Phase.BLOCK)


def test_three_rounds_are_sealed_and_can_be_read_by_proof():
    s = servers()
    for height in (1, 2, 3):
        s.until(Phase.BLOCK)
        leader, outcome = s.author(), s.machine._outcome(nodes(4)[0])
        state = s.state
        s.until(None)
        assert s.chain.height == s.state.height == height and s.chain.head.hash == s.state.head
        assert s.chain.head.coinbase == nodes(4)[leader]
        assert s.chain.head.extra_data == merkle.root(state.evidence)
        model = s.chain.read("ModelRegistry", "model", height)
        assert model[1] == outcome.global_root
        ballots = Ballots.of(state, s.settings, outcome)
        for i, entry in enumerate(ballots.entries):
            path = list(ballots.tree.proof(i))
            assert s.chain.read("Votes", "voted", height, *entry, i, path)
        assert ballots.entries[0][2] == prediction_hash(state.votes[nodes(4)[0]][1])


def test_servers_are_paid_what_the_outcome_says():
    s = ready()
    before = {node: s.chain.state().get_balance(node) for node in nodes(4)}
    pay, _ = s.machine._outcome(nodes(4)[0]).rewards(nodes(4)[s.author()], s.settings)
    s.until(None)
    for node in nodes(4):
        assert s.chain.state().get_balance(node) - before[node] == pay.get(node, 0)
    assert sum(pay.values()) > 0 and s.state.balances == pay


def test_clients_payments_of_the_round_before_are_posted():
    s = ready(payments=Payments([1, 2], [10, 20], 30))
    s.until(None)
    settled = Settlement.of(0, s.payments, lambda c: bytes([c]) * 20)
    assert s.chain.read("Rewards", "claims", 0) == (settled.root, 2, 30, 30)


def test_waiting_transactions_follow_the_settling_call():
    s = ready()
    bench = Bench()
    vote = bench.raw(s.keys[3], "Members", _approve(bytes([5]) * 20))
    s.blocks.pool.add(vote)
    s.until(None)
    assert len(s.chain.block(1).transactions) == 2 and len(s.blocks.pool) == 0
    assert s.chain.read("Members", "epoch") == 0


def _approve(account):
    from tests.consensus.chain.chains import interface

    return interface("Members").call("approve", account, True)


def payload_of(s, transactions, i):
    block = s.proposal(i)
    payload = s.chain.build(nodes(4)[i], block.time_s, block.evidence_root, transactions)
    return replace(block, payload=payload, header_hash=s.chain.decode(payload).header.hash)


def settle(s, i, by=None, **change):
    """The raw settling call of author i, with something changed."""
    block = s.machine.proposal(nodes(4)[i])
    outcome = s.machine._outcome(nodes(4)[i])
    record = replace(s.record(block, outcome, nodes(4)[i]), **change)
    bench = Bench()
    return bench.raw(s.keys[i if by is None else by], "Rounds", record.call())


def lies(s, i):
    other = (i + 1) % 4
    good = s.proposal(i)
    extra = Bench().raw(s.keys[i], "Rounds", _second_round(s, i), ahead=1)
    inside = s.chain.decode(good.payload)
    state = inside.copy(header=inside.header.copy(state_root=bytes([1]) * 32))
    return {
        "malformed": lambda: replace(good, payload=b"\xc0"),
        "wrong_header: time": lambda: replace(
            payload_at(s, i, good.time_s + 1), time_s=good.time_s
        ),
        "wrong_header: hash": lambda: replace(good, header_hash=bytes(32)),
        "wrong_settlement: none": lambda: payload_of(s, [], i),
        "wrong_settlement: pay": lambda: payload_of(s, [settle(s, i, pay={nodes(4)[i]: 10**6})], i),
        "wrong_settlement: root": lambda: payload_of(s, [settle(s, i, update_root=bytes(32))], i),
        "wrong_settlement: by another": lambda: payload_of(s, [settle(s, i, by=other)], i),
        "wrong_settlement: a second round": lambda: payload_of(s, [settle(s, i), extra], i),
        "wrong_state": lambda: replace(
            good, payload=rlp.encode(state), header_hash=state.header.hash
        ),
    }


def payload_at(s, i, time_s):
    block = s.proposal(i)
    payload = s.chain.build(nodes(4)[i], time_s, block.evidence_root, [settle(s, i)])
    return replace(block, payload=payload, header_hash=s.chain.decode(payload).header.hash)


def _second_round(s, i):
    return RoundRecord(9, nodes(4)[i], bytes([1]) * 32).call()


LIES = (
    "malformed", "wrong_header: time", "wrong_header: hash", "wrong_settlement: none",
    "wrong_settlement: pay", "wrong_settlement: root", "wrong_settlement: by another",
    "wrong_settlement: a second round", "wrong_state",
)  # fmt: skip


@pytest.mark.parametrize("why", LIES)
def test_a_lying_payload_strikes_its_leader_and_the_next_rank_writes(why):
    """T-11 on the EVM: whatever the leader puts into the block, the others refuse it alike."""
    s = ready()
    leader = s.author()
    found = s.order(s._signed(leader, lies(s, leader)[why]()))
    assert reasons(found) == [why.split(":")[0]]
    assert fx.Strike(nodes(4)[leader], "bad_block") in found and s.chain.height == 0
    assert s.author() != leader
    s.until(None)
    assert s.chain.height == 1 and s.chain.head.hash == s.state.head


def test_an_accepted_block_counts_once_a_quorum_has_sealed_it():
    s = ready()
    leader, round_, rank = s.author(), s.state.round, s.state.rank
    block = s.proposal(leader)
    s.block(leader, seal=False)
    assert s.state.height == 1 and s.chain.height == 0
    with pytest.raises(ConfigError, match="3 FINAL messages seal a block, got 2"):
        s.keep(block, leader, round_, rank, signers=2)
    leads = s.blocks.lead(block, s.keys[leader], round_ + 1, rank)
    finals = [Entry.sign(k, CHAIN, round_, Final(rank, block.header_hash)) for k in s.keys]
    with pytest.raises(IntegrityError, match="another place"):
        s.blocks.keep(block, round_=round_ + 1, rank=rank, leader=leads, finals=finals)
    s.keep(block, leader, round_, rank)
    assert s.chain.head.hash == block.header_hash


def test_plain_rounds_seal_by_a_majority_where_servers_only_crash():
    """Raft's mode: no votes, and two of three signatures suffice."""
    s = servers(3, plain=True, faults="crash")
    s.until(None)
    s.until(None)
    assert s.chain.height == 2 and len(s.chain.seal_of(s.chain.head.hash).finals.finals) == 2
    assert s.chain.read("Votes", "batches", 1) == (bytes(32), 0)
