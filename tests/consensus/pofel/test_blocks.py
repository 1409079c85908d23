"""Block validity: security tests T-10, T-11 and T-19; whatever lies is refused by everybody."""

from dataclasses import replace

import pytest

from consensus.encoding import pack, unpack
from consensus.pofel import blocks, merkle
from consensus.pofel import effects as fx
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import Commit, Entry
from consensus.pofel.state import Phase
from tests.consensus.pofel.servers import CHAIN, CHECK, Servers, keys, near, reasons, settings


def ready(n=4, **more):
    s = Servers(settings(n, **more), models={i: near(i) for i in range(n)})
    return s.until(Phase.BLOCK)


def altered(s, part, change):
    """The honest block with one part of its facts changed, hash and all."""
    honest = s.machine.proposal(s.node(s.author()))
    facts = dict(unpack(honest.facts))
    facts[part] = change(facts[part])
    lie = replace(honest, facts=pack(facts))
    return replace(lie, header_hash=blocks.block_hash(lie))


def one_ulp(root):
    return bytes([root[0] ^ 1]) + root[1:]


LIES = {
    "wrong_parent": lambda s, b: replace(b, parent=bytes([1]) * 32),
    "wrong_time": lambda s, b: replace(b, time_s=b.time_s + 10_000),
    "wrong_evidence": lambda s, b: replace(b, evidence_root=bytes(32)),
    "wrong_tally": lambda s, b: altered(s, "tally", lambda f: (f[0], f[1][::-1], *f[2:])),
    "wrong_scores": lambda s, b: altered(s, "scores", lambda f: f[1:]),
    "wrong_weights": lambda s, b: altered(s, "weights", lambda f: (f[0], f[1][::-1])),
    "wrong_aggregate": lambda s, b: altered(s, "aggregate", lambda f: (one_ulp(f[0]), *f[1:])),
    "wrong_rewards": lambda s, b: altered(s, "rewards", lambda f: (f[0], f[1] + 1)),
    "wrong_facts": lambda s, b: replace(b, facts=b"\xc0"),
    "wrong_header": lambda s, b: replace(b, header_hash=bytes(32)),
}


@pytest.mark.parametrize("why", sorted(LIES))
def test_T11_a_lying_leader_is_struck_and_rank_1_writes(why):
    s = ready()
    leader = s.author()
    balances, head = s.state.balances, s.state.head
    lie = LIES[why](s, s.machine.proposal(s.node(leader)))
    if why not in ("wrong_header", "wrong_facts"):
        lie = replace(lie, header_hash=blocks.block_hash(lie))
    found = s.order(s._signed(leader, lie))
    assert reasons(found) == [why] and fx.Strike(s.node(leader), "bad_block") in found
    assert (s.state.height, s.state.rank) == (0, 1) and s.author() != leader
    assert s.state.balances == balances and s.state.head == head
    s.until(None)
    assert s.state.height == 1 and s.state.recent[-1] != s.node(leader)
    s.until(None)
    assert s.state.history[s.node(leader)] < 0  # the strike reached the next tally


def test_T11_a_block_that_is_no_block_counts_as_a_bad_one():
    s = ready()
    leader = s.author()
    entry = s._signed(leader, s.machine.proposal(s.node(leader)))
    garbage = replace(entry, body=b"\xc1\x80")
    garbage = replace(garbage, signature=keys(4)[leader].sign(garbage.digest))
    assert reasons(s.order(garbage)) == ["malformed"]
    assert s.strikes() == [(leader, "bad_block")] and s.state.rank == 1


def test_others_and_late_leaders_are_ignored_without_a_strike():
    s = ready()
    leader = s.author()
    other = (leader + 1) % 4
    before = s.machine.state_hash()
    assert reasons(s.block(other)) == ["not_the_leader"]
    honest = s._signed(leader, s.machine.proposal(s.node(leader)))
    assert s.machine.state_hash() == before
    s.mark()  # its time is over
    assert reasons(s.order(honest)) == ["not_the_leader"] and s.strikes() == []
    s.until(None)
    assert reasons(s.order(honest)) == ["other_round"]


def test_T10_after_a_crash_the_next_rank_writes_and_nothing_is_sealed_twice():
    s = ready()
    first = s.author()
    s.mark()
    second = s.author()
    block = s._signed(second, s.machine.proposal(s.node(second)))
    s.order(block)
    before = s.machine.state_hash()
    assert reasons(s.order(block)) == ["other_round"]
    assert s.state.height == 1 and s.machine.state_hash() == before
    again = RoundMachine(s.settings, check=CHECK)  # the crashed server replays
    for entry in s.stream:
        if again.stalls(entry):
            again.provide(s.evaluator(again.state.task(s.settings), s.store))
        again.apply(entry)
    assert again.state_hash() == before and first != second


def test_ranks_go_round_when_all_authors_are_silent():
    s = ready()
    order = []
    for _ in range(8):
        order.append(s.author())
        s.mark()
    assert order[:4] == order[4:] and sorted(order[:4]) == [0, 1, 2, 3]
    s.until(None)
    assert s.state.height == 1


def test_T19_the_block_s_time_is_the_lower_median_of_the_commits():
    """Clocks 50, 60, 70 and a liar's 10^9: the lower median of four is 60; never below the parent's."""
    s = Servers(settings(4, head_time_s=10))
    for i, clock in enumerate((70, 50, 10**9, 60)):
        s.send(i, Commit(bytes([i + 1]) * 32, 5, s.state.head, clock))
    assert s.state.block_time_s() == 60
    stuck = Servers(settings(4, head_time_s=10**6))
    stuck.commit(0)
    assert stuck.state.block_time_s() == 10**6 + 1


def test_evidence_is_the_root_of_what_was_applied_aborted_rounds_included():
    s = Servers(settings(4), lazy={i: {"commit"} for i in range(3)})
    s.until(None)  # aborted: one commit, one mark
    s.lazy = {}
    s.until(Phase.BLOCK)
    s.commit(0)  # too late: no evidence
    applied = s.stream[:-1]
    told = s.machine.proposal(s.node(0)).evidence_root
    assert told == merkle.root([merkle.leaf(e.encode()) for e in applied])
    assert [e.kind.value for e in applied[:2]] == ["commit", "mark"]
    s.until(None)
    assert s.state.evidence == ()


def test_the_evm_part_is_somebody_else_s_to_check():
    """The callable sees block, outcome and author; its reason strikes like any other."""
    seen = []

    def check(block, outcome, author):
        seen.append((block.payload, outcome.global_root, author))
        return None if block.payload == b"evm" else "wrong_state_root"

    s = ready()
    machine = RoundMachine(s.settings, check=CHECK, check_payload=check)
    machine.restore(s.machine.snapshot())
    s.machine = machine
    leader = s.author()
    bad = replace(machine.proposal(s.node(leader)), payload=b"other")
    assert reasons(s.order(s._signed(leader, bad))) == ["wrong_state_root"]
    leader = s.author()
    good = replace(machine.proposal(s.node(leader)), payload=b"evm", header_hash=bytes([5]) * 32)
    s.order(s._signed(leader, good))
    assert s.state.head == bytes([5]) * 32 and [x[0] for x in seen] == [b"other", b"evm"]
    assert seen[1][2] == s.node(leader)


def test_oversized_blocks_never_reach_the_checks():
    s = ready()
    leader = s.author()
    honest = s.machine.proposal(s.node(leader))
    huge = Entry.sign(keys(4)[leader], CHAIN, 1, replace(honest, payload=bytes(9 << 20)), 0)
    assert reasons(s.order(huge)) == ["malformed"]
    assert s.strikes() == [(leader, "bad_block")]
