"""A server that was away longer than the log is kept: a state by its hash, blocks by their seals."""

import pytest

from consensus.bft.messages import Decision
from consensus.chain import replica as replicas
from consensus.chain.database import Database
from consensus.chain.logs import DUMP_EVERY, BftLog
from consensus.chain.member import Member, height_in
from consensus.chain.node import ChainNode
from consensus.chain.replica import Replica
from consensus.chain.store import ModelStore
from consensus.encoding import decode, encode
from consensus.raft.messages import Entry, EntryKind
from fedalign.core.errors import DataError, IntegrityError
from tests.consensus.chain.test_member import Log, pay, transaction_item


def played(blocks, log=None):
    """A log with so many blocks, then a transaction and a block that waits for its seal."""
    log = log or Log()
    for nonce in range(blocks):
        log.order(transaction_item(pay(nonce)))
        log.turn()
        log.turn()
    log.order(transaction_item(pay(blocks)))
    log.now += 1
    log.order(log.members[0].wishes(True)[0])
    return log


def applied(log, member, items=None):
    for item in log.items if items is None else items:
        member.apply(item)
    return member


class Pair:
    """Server 0 has everything, server 3 nothing; what they say to each other, in turn."""

    def __init__(self, folder, log, chunk_bytes=64):
        self.log, self.lost, self.spoil = log, 0, None
        self.said = []
        self.rich = Replica(log.members[0], ModelStore(folder / "0", chunk_bytes), [3])
        self.poor = Replica(log.member(3), ModelStore(folder / "3", chunk_bytes), [0])
        self.rich.send = lambda to, frame: self._say(0, frame)
        self.poor.send = lambda to, frame: self._say(3, frame)

    def _say(self, sender, frame):
        self.said.append(decode(frame)[0])
        frame = self.spoil(decode(frame)) if self.spoil and sender == 0 else frame
        (self.poor if sender == 0 else self.rich).received(sender, frame)


def entries(items, first=1):
    return [Entry(1, i, EntryKind.NORMAL, item) for i, item in enumerate(items, first)]


def test_a_dump_stands_for_the_whole_log():
    """Whoever loads it goes on like whoever read everything: waiting transactions, candidate, finals."""
    log = played(3)
    dump = log.members[0].dump()
    assert height_in(dump) == 3 and len({m.dump() for m in log.members}) == 1
    again = Member(log.members[3].node, log.members[3].key, clock=lambda: log.now)
    again.load(dump)
    assert again.dump() == dump and len(again.pool) == 1
    log.members[3] = again
    log.turn()
    log.turn()
    assert len(log.heads()) == 1 and again.node.height == 4 and len(again.pool) == 0
    with pytest.raises(DataError, match="no member's state"):
        again.load(b"\xc0")
    with pytest.raises(DataError, match="fetch the blocks first"):
        log.member(3).load(dump)


def test_a_server_with_nothing_fetches_manifest_chunks_and_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(replicas, "BLOCKS_SENT", 2)
    log = played(5, Log(2))
    pair = Pair(tmp_path, log)
    root = pair.rich.dump()
    assert len(root) == 32
    late = transaction_item(pay(9))
    pair.poor.load(root)
    assert pair.poor.fetching and pair.poor.dump() is None
    pair.poor.apply(entries([late]))  # the log goes on meanwhile
    pair.poor.fetch()
    assert not pair.poor.fetching
    asked = pair.said[::2]
    chunks = len({*pair.rich.store.manifest(root).leaves})
    assert asked == [b"manifest", *[b"chunk"] * chunks, *[b"blocks"] * 3] and chunks > 2
    log.order(late)
    assert pair.poor.member.dump() == log.members[0].dump()
    assert pair.poor.member.node.head.hash == log.members[0].node.head.hash
    again = Replica(log.member(3), pair.poor.store, [0])
    again.load(pair.poor.dump())
    assert again.fetching  # the state is here, its blocks are not: they were in memory only


@pytest.mark.parametrize("part", [b"manifest", b"chunk", b"blocks"])
def test_what_does_not_fit_its_hash_or_seal_is_not_taken(tmp_path, part):
    pair = Pair(tmp_path, played(2, Log(2)))
    left = [1]

    def spoil(items):
        """The first such answer is wrong by a byte."""
        if items[0] != part or not left:
            return encode(items)
        left.pop()
        answer = items[3] if part != b"blocks" else items[3][0][0]
        bad = answer[:-1] + bytes([answer[-1] ^ 1])
        return encode([*items[:3], bad if part != b"blocks" else [[bad, items[3][0][1]]]])

    pair.spoil = spoil
    pair.poor.load(pair.rich.dump())
    pair.poor.fetch()
    assert not left and not pair.poor.fetching
    assert pair.said[::2].count(part) >= 2  # it was asked for once more
    assert pair.poor.member.node.height == 2


def test_questions_that_cannot_be_answered_stay_without_answer(tmp_path):
    pair = Pair(tmp_path, played(1, Log(2)))
    for question in ([b"chunk", bytes(32), 0], [b"manifest", bytes(32), 0], [b"money", b"", 1]):
        pair.rich.received(3, encode(question))
    assert not pair.said
    for noise in (b"", b"\xc0", encode([b"chunk"])):
        with pytest.raises(DataError):
            pair.rich.received(3, noise)


# ---------------------------------------------------------------- BFT


class _NoNetwork:
    def __init__(self, receive):
        self.addresses = range(4)

    def send(self, *_):
        """Nobody is there."""


def bft(folder, log, database):
    node = ChainNode(log.genesis, database)
    member = Member(node, log.members[0].key, clock=lambda: log.now)
    return BftLog(0, 4, member, folder, _NoNetwork, log.genesis.members, 131_277)


def test_decided_heights_stay_in_the_database_and_are_read_again(tmp_path):
    log = played(3, Log(faults="byzantine"))
    database = Database(tmp_path / "chain.db")
    first = bft(tmp_path, log, database)
    told = [Decision(height, 0, (item,), ()) for height, item in enumerate(log.items, 1)]
    for decision in told:
        assert first._decided(decision) == (0, 1, 2, 3)
    state = first._member.dump()
    assert state == log.members[0].dump() and first.earlier(2) == told[1]
    assert first.earlier(len(told) + 1) is None
    again = bft(tmp_path, log, database)
    assert again._member.dump() == state
    again._decided(told[-1])  # the journal hands over what is here already
    assert again._member.dump() == state
    with pytest.raises(IntegrityError, match="from another server"):
        again._decided(Decision(len(told) + 2, 0, (), ()))
    for height in range(len(told) + 1, DUMP_EVERY + 1):
        again._decided(Decision(height, 0, (), ()))
    database[b"order:" + (1).to_bytes(8, "big")] = b"no decision"  # it is not read any more
    assert bft(tmp_path, log, database)._member.dump() == state


def test_members_take_turns_at_writing_and_who_is_late_is_passed_over(tmp_path, monkeypatch):
    log, now = played(1, Log(faults="byzantine")), [100.0]
    monkeypatch.setattr("consensus.chain.logs.time.monotonic", lambda: now[0])
    order = bft(tmp_path, log, Database(None))
    seen = []
    for _ in range(8):
        seen.append(order.leads())
        now[0] += 1.0
    assert seen == [True, True, False, False, False, False, False, False]  # 2 s, then 1, 2, 3
    now[0] += 1.0
    assert order.leads()
