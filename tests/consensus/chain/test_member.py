"""Members around one log: equal heads, only sealed blocks, restarts that read the log again."""

import hashlib
from itertools import pairwise

import pytest

from consensus.chain.genesis import Genesis
from consensus.chain.member import AGAIN_S, BLOCK, FINAL, TRANSACTION, Member
from consensus.chain.node import ChainNode
from consensus.chain.transactions import signed
from consensus.encoding import decode, encode
from consensus.identity import Key
from consensus.pofel.messages import Entry
from consensus.pofel.messages import Final as FinalBody
from fedalign.core.errors import ConfigError
from tests.consensus.pofel.servers import CHECK, keys, nodes

CLIENT = Key(hashlib.sha256(b"a client with money").digest())


class Log:
    """n members and the items they had ordered; `down` ones hear nothing, and hear it all later."""

    def __init__(self, n=4, faults="crash"):
        self.now = 1_000.0
        self.genesis = Genesis(nodes(n), faults=faults, balances={CLIENT.node_id: 10**18})
        self.items: list[bytes] = []
        self.members = [self.member(i) for i in range(n)]
        self.down: set[int] = set()
        self.reasons: list[str | None] = []

    def member(self, i, node=None):
        node = ChainNode(self.genesis, check=CHECK) if node is None else node
        return Member(node, keys(10)[i], clock=lambda: self.now)

    def order(self, item):
        self.items.append(item)
        told = {m.apply(item) for i, m in enumerate(self.members) if i not in self.down}
        assert len(told) == 1  # everybody takes an item alike
        self.reasons += told
        return told.pop()

    def turn(self, leader=0):
        """Everybody's wishes once, in order."""
        self.now += AGAIN_S
        for i, member in enumerate(self.members):
            if i not in self.down:
                for item in member.wishes(i == leader):
                    self.order(item)

    def heads(self):
        return {m.node.head.hash for i, m in enumerate(self.members) if i not in self.down}


def transaction_item(raw):
    return encode([TRANSACTION, raw])


def pay(nonce, value=1):
    return signed(CLIENT, chain_id=131_277, nonce=nonce, to=bytes(20), value=value, gas=21_000)


def test_a_transaction_is_in_the_next_block_of_everybody():
    log = Log()
    assert log.order(transaction_item(pay(0))) is None
    log.turn()
    log.turn()
    assert len(log.heads()) == 1 and log.members[2].node.height == 1
    block = log.members[3].node.block(1)
    assert [t.hash for t in block.transactions] == [log.members[0].node.transaction(pay(0)).hash]
    assert all(len(m.pool) == 0 for m in log.members)
    seal = log.members[1].node.seal_of(block.hash)
    assert len(seal.finals.finals) == 3 and seal.round == 1  # a majority of four


def test_a_transaction_is_uttered_until_the_log_holds_it():
    """The first two times nobody leads and it is lost."""
    log = Log()
    member = log.members[2]
    member.hand_in(pay(0))
    member.hand_in(pay(0))
    for _ in range(2):
        assert member.wishes(False) == [transaction_item(pay(0))]
        assert member.wishes(False) == []  # not again at once
        log.now += AGAIN_S
    log.turn()
    log.turn()
    node = log.members[0].node
    blocks = [node.block(height) for height in range(1, node.height + 1)]
    assert sum(len(block.transactions) for block in blocks) == 1
    log.now += AGAIN_S
    assert member.wishes(False) == []


def test_blocks_come_at_intervals_without_transactions():
    log = Log()
    for _ in range(30):
        log.turn()
    times = [log.members[0].node.header_at(h).timestamp for h in range(1, 5)]
    assert all(5 <= b - a <= 8 for a, b in pairwise(times))


def test_members_that_are_down_catch_up_from_the_log():
    log = Log()
    log.down = {3}
    for nonce in range(3):
        log.order(transaction_item(pay(nonce)))
        log.turn()
        log.turn()
    assert log.members[3].node.height == 0
    for item in log.items:
        log.members[3].apply(item)
    log.down = set()
    assert log.members[3].node.height >= 3 and len(log.heads()) == 1


def test_a_minority_seals_nothing():
    log = Log()
    log.down = {2, 3}
    log.order(transaction_item(pay(0)))
    for _ in range(5):
        log.turn()
    assert log.members[0].node.height == 0


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 100])
def test_a_restart_reads_the_log_again_and_says_nothing_twice(cut):
    """The database is ahead of the log that is read: nothing is imported or signed again."""
    log = Log()
    for nonce in range(3):
        log.order(transaction_item(pay(nonce)))
        log.turn()
        log.turn()
    node, head = log.members[1].node, log.members[1].node.head
    again = log.member(1, node)
    for item in log.items[:cut]:
        again.apply(item)
        assert node.head == head
    if cut < len(log.items):
        assert again.wishes(True) == []
    for item in log.items[cut:]:
        again.apply(item)
    assert node.head == head
    log.members[1] = again
    log.order(transaction_item(pay(3)))
    log.turn()
    log.turn()
    assert len(log.heads()) == 1 and node.height == head.block_number + 1


def test_a_new_leader_proposes_when_the_old_one_is_gone():
    log = Log()
    log.order(transaction_item(pay(0)))
    log.down = {0}
    log.turn(leader=1)
    log.turn(leader=1)
    assert log.members[1].node.height == 1
    assert log.members[1].node.head.coinbase == nodes(4)[1]


def proposal(log, i=0):
    log.now += 100
    (item,) = log.members[i].wishes(True)
    return decode(item)


def test_blocks_that_lie_are_taken_by_nobody():
    log = Log()
    log.order(transaction_item(pay(0)))
    _, leader, leaves, payload = proposal(log)
    node = log.members[0].node
    other = node.build(nodes(4)[0], 2000, bytes([9]) * 32)
    stranger = Log(4).members[0].node.build(CLIENT.node_id, 2000, bytes(32))
    for item, why in (
        ([BLOCK, bytes(65), leaves, payload], "did not sign"),
        ([BLOCK, leader, 0, payload], "another one"),
        ([BLOCK, leader, 9, payload], "not there"),
        ([BLOCK, leader, leaves, other], "did not sign"),
        ([BLOCK, leader, leaves, stranger], "no member"),
        ([BLOCK, leader, leaves, b"\xc0"], "no block"),
        ([BLOCK, leader, leaves], "3 fields"),
        ([b"gossip"], "a transaction, a block or"),
    ):
        assert why in log.order(encode(item))
    assert log.order(encode([BLOCK, leader, leaves, payload])) is None
    assert "another block waits" in log.order(encode([BLOCK, leader, leaves, payload]))


def test_finals_count_once_and_for_the_waiting_block_only():
    log = Log()
    header = bytes([3]) * 32

    def final(i, told, number=1, chain=131_277):
        return encode([FINAL, Entry.sign(keys(10)[i], chain, number, FinalBody(0, told)).encode()])

    assert "no block waits" in log.order(final(0, header))
    item = proposal(log)
    log.order(encode([item[0], item[1], item[2], item[3]]))
    right = log.members[0].node.decode(item[3]).header.hash
    assert "another block" in log.order(final(0, header))
    assert "another block" in log.order(final(0, right, number=2))
    assert "another block" in log.order(final(0, right, chain=1))
    assert log.order(final(0, right)) is None
    assert "signed before" in log.order(final(0, right))
    assert "no member" in log.order(final(7, right))
    assert log.members[0].node.height == 0
    log.order(final(1, right))
    log.order(final(2, right))
    assert log.members[3].node.height == 1


def test_junk_in_the_log_changes_nothing_and_raises_nothing():
    log = Log()
    for junk in (b"", b"\xff" * 50, encode([]), encode([[]]), encode([FINAL, b"x"]),
                 encode([FINAL, [b"x"]]), encode([b"transaction", b""]),
                 encode([BLOCK, bytes(65), b"\0\0", b""]), transaction_item(b"\x02" + b"\xc0")):  # fmt: skip
        assert log.order(junk)
    log.order(transaction_item(pay(0)))
    log.turn()
    log.turn()
    assert log.members[0].node.height == 1


def test_intervals_are_above_zero():
    with pytest.raises(ConfigError, match="above 0 s, got 0"):
        Member(Log(2).members[0].node, keys(10)[0], interval_s=0)
