"""A node: equal arguments give equal blocks, only sealed blocks are kept, a restart forgets none."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import rlp

from consensus.chain.database import Database
from consensus.chain.genesis import Genesis
from consensus.chain.node import ChainNode
from consensus.chain.seal import BlockSeal, key_of
from consensus.encoding import encode
from consensus.identity import Key
from consensus.pofel.seal import Seal
from fedalign.core.errors import ConfigError, DataError, IntegrityError
from tests.consensus.chain.chains import Bench
from tests.consensus.pofel.servers import CHECK, keys, nodes

ROOT = Path(__file__).parents[3]
STRANGER = Key(hashlib.sha256(b"a stranger").digest())


def vote(bench, i=0, who=STRANGER):
    """A transaction: member i approves of somebody."""
    from tests.consensus.chain.chains import interface

    data = interface("Members").call("approve", who.node_id, True)
    return bench.raw(bench.keys[i], "Members", data)


# ---------------------------------------------------------------- building


def test_equal_arguments_give_equal_bytes_on_every_node():
    a, b = Bench(), Bench()
    raw = [vote(a, i) for i in range(4)]
    place = (nodes(4)[1], 77, bytes([1]) * 32)
    payload = a.node.build(*place, raw)
    assert b.node.build(*place, raw) == payload == a.node.build(*place, raw)
    header = a.node.decode(payload).header
    assert (header.coinbase, header.timestamp, header.extra_data) == place
    assert header.difficulty == 0 and header.gas_limit == a.node.genesis.gas_limit


def test_building_and_previewing_keep_nothing():
    bench = Bench()
    before = bench.node.head
    payload = bench.node.build(nodes(4)[0], 5, bytes(32), [vote(bench)])
    assert bench.node.preview(payload).block_number == 1
    assert bench.node.head == before and bench.nonce(bench.keys[0]) == 0
    assert bench.node.height == 0


def test_a_replica_executes_the_block_and_reaches_the_same_head():
    a, b = Bench(), Bench()
    for i in range(3):
        payload = a.block(vote(a, i))
        b.node.import_final(payload, a.node.seal_of(a.node.head.hash))
    assert a.node.head.hash == b.node.head.hash and b.node.height == 3
    assert b.node.members_at(b.node.head)[-1] == STRANGER.node_id


@pytest.mark.parametrize("fork", ["prague", "cancun"])
def test_headers_and_empty_blocks_are_those_of_py_evm(fork):
    """Full, half full and empty parents: the short cut gives the header that py-evm derives."""
    a, b = Bench(fork=fork, gas_limit=40_000_000), Bench(fork=fork, gas_limit=40_000_000)
    for raw in ([], [vote(a, 0), vote(a, 1)], [], []):
        place = {"coinbase": nodes(4)[2], "timestamp": a.node.head.timestamp + 3}
        place |= {"extra_data": bytes([9]) * 32, "gas_limit": 40_000_000}
        theirs = a.node._chain.create_header_from_parent(a.node.head, **place)
        ours = a.node._draft(nodes(4)[2], place["timestamp"], place["extra_data"])
        assert type(ours) is type(theirs) and ours.as_dict() == theirs.as_dict()
        payload = a.block(*raw)
        b.node.import_final(payload, a.node.seal_of(a.node.head.hash))  # executes it
    assert a.node.head.hash == b.node.head.hash and b.node.height == 4


def test_transactions_that_cannot_stand_there_are_left_out():
    bench = Bench()
    good, used_up = vote(bench, 0), vote(bench, 0)
    poor = bench.raw(STRANGER, "Members", b"", value=1)
    place = (nodes(4)[0], 5, bytes(32))
    assert bench.node.fitting(*place, [poor, good, b"junk", used_up, vote(bench, 1)]) == [
        good, vote(bench, 1),
    ]  # fmt: skip
    with pytest.raises(DataError, match="cannot be executed"):
        bench.node.build(*place, [good, used_up])
    with pytest.raises(DataError, match="no signed transaction"):
        bench.node.build(*place, [b"junk"])


# ---------------------------------------------------------------- seals


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10])
def test_a_block_needs_the_quorum_of_its_members(n):
    """floor(2n/3) + 1 where members may lie, a majority where they only crash."""
    for faults, needs in (("byzantine", 2 * n // 3 + 1), ("crash", n // 2 + 1)):
        bench = Bench(n, faults=faults)
        if needs > 1:
            with pytest.raises(
                IntegrityError, match=f"{needs - 1} servers' signatures, {needs} of"
            ):
                bench.block(signers=needs - 1)
        assert bench.node.height == 0
        bench.block(signers=needs)
        assert bench.node.height == 1


def seals(bench, payload):
    """Seals that look right and are not, by what is wrong."""
    good = bench.seal(payload)
    header, chain = bench.node.decode(payload).header, bench.node.genesis.chain_id
    where = (chain, good.round, 0, header.hash)
    three = bench.keys[:3]
    return {
        "author's signature": replace(good, leader=bench.keys[1].sign(bytes(32))),
        "another place": BlockSeal.sign(three, bench.keys[0], chain + 1, *where[1:]),
        "FINAL over another block": replace(good, rank=1, leader=lead_for(bench, header, 1)),
        "round 0, the parent's of 0": BlockSeal.sign(
            three, bench.keys[0], chain, 0, 0, header.hash
        ),
        "message of another place": BlockSeal.sign(
            [*bench.keys[:2], STRANGER], bench.keys[0], *where
        ),
        "2 servers' signatures, 3 of 4": replace(good, finals=Seal(good.finals.finals[:2] * 2)),
    }


def lead_for(bench, header, rank):
    from consensus.chain.seal import lead

    return lead(bench.keys[0], bench.node.genesis.chain_id, bench.round, rank, header.hash)


def test_a_wrong_seal_keeps_nothing():
    bench = Bench()
    payload = bench.node.build(nodes(4)[0], 5, bytes(32), [vote(bench)])
    for why, bad in seals(bench, payload).items():
        if why == "another place":
            why = "author's signature"
        with pytest.raises(IntegrityError, match=why):
            bench.node.import_final(payload, bad, {b"applied": b"9"})
        assert bench.node.height == 0 and b"applied" not in bench.node.database
        assert bench.node.seal_of(bench.node.decode(payload).hash) is None
    bench.node.import_final(payload, bench.seal(payload))


def test_an_author_must_be_a_member_at_the_parent():
    bench = Bench()
    payload = bench.node.build(STRANGER.node_id, 5, bytes(32))
    header = bench.node.decode(payload).header
    seal = BlockSeal.sign(bench.keys[:3], STRANGER, 131_277, 1, 0, header.hash)
    with pytest.raises(IntegrityError, match="no member"):
        bench.node.import_final(payload, seal)


def test_a_seal_comes_back_from_its_bytes_and_no_others():
    bench = Bench()
    payload = bench.block()
    seal = bench.node.seal_of(bench.node.decode(payload).hash)
    assert BlockSeal.decode(seal.encode()) == seal
    for bad in (b"", b"\xc0", seal.encode()[:-1], seal.encode() + b"\0"):
        with pytest.raises(DataError):
            BlockSeal.decode(bad)


def test_rounds_of_seals_only_grow():
    bench = Bench()
    bench.block()
    bench.round = 0
    with pytest.raises(IntegrityError, match="round 1, the parent's of 1"):
        bench.block()


# ---------------------------------------------------------------- lies in a block


def alter(payload, node, **fields):
    block = node.decode(payload)
    return rlp.encode(block.copy(header=block.header.copy(**fields)))


LIES = {
    "state_root": bytes([1]) * 32,
    "receipt_root": bytes([1]) * 32,
    "transaction_root": bytes([1]) * 32,
    "gas_used": 1,
    "bloom": 1,
    "requests_hash": bytes(32),
    "gas_limit": 59_990_000,
    "timestamp": 0,
    "difficulty": 1,
    "block_number": 2,
    "base_fee_per_gas": 1,
    "extra_data": bytes(31),
    "nonce": b"\1" * 8,
    "parent_hash": bytes([2]) * 32,
}


@pytest.mark.parametrize("field", sorted(LIES))
def test_an_altered_header_is_refused_even_with_a_full_seal(field):
    bench = Bench()
    payload = bench.node.build(nodes(4)[0], 5, bytes(32), [vote(bench)])
    lie = alter(payload, bench.node, **{field: LIES[field]})
    with pytest.raises((IntegrityError, DataError)):
        bench.node.import_final(lie, bench.seal(lie))
    assert bench.node.height == 0
    bench.node.import_final(payload, bench.seal(payload))
    assert bench.node.height == 1


def test_a_dropped_or_added_transaction_is_refused():
    bench = Bench()
    payload = bench.node.build(nodes(4)[0], 5, bytes(32), [vote(bench, 0), vote(bench, 1)])
    block = bench.node.decode(payload)
    for transactions in (block.transactions[:1], (*block.transactions, block.transactions[0])):
        lie = rlp.encode(block.copy(transactions=transactions))
        with pytest.raises((IntegrityError, DataError)):
            bench.node.import_final(lie, bench.seal(lie))


@pytest.mark.parametrize("bad", [b"", b"\xc0", b"\xff" * 100, bytes(1000)])
def test_bytes_that_are_no_block_are_refused(bad):
    with pytest.raises(DataError, match="no block"):
        Bench().node.preview(bad)


def nested(levels):
    """Lists in lists, canonical."""
    from consensus.encoding import _head

    data = b"\xc0"
    for _ in range(levels):
        data = _head(0xC0, len(data)) + data
    return data


def test_nesting_bombs_end_as_a_sentence_and_not_the_process():
    """py-evm raises the recursion limit; its decoder would overflow the stack on any of these."""
    node, bomb = Bench().node, nested(100_000)
    inside = encode([[], [b"\x02" + bomb], [], []])
    for payload in (bomb, inside):
        with pytest.raises(DataError, match=r"nested deeper|no block"):
            node.preview(payload)
    for raw in (bomb, b"\x02" + bomb, b"\x04" + bomb):
        with pytest.raises(DataError, match="nested deeper"):
            node.transaction(raw)


def test_blocks_follow_the_head_only_and_the_head_may_come_again():
    bench = Bench()
    first = bench.block()
    seal = bench.node.seal_of(bench.node.head.hash)
    sibling = Bench()
    other = sibling.node.build(nodes(4)[1], 9, bytes([9]) * 32)
    bench.node.import_final(first, seal, {b"applied": b"1"})  # again: nothing changes
    assert b"applied" not in bench.node.database
    with pytest.raises(IntegrityError, match="the head is block 1"):
        bench.node.import_final(other, bench.seal(first))


# ---------------------------------------------------------------- genesis


def test_genesis_is_a_function_of_what_was_agreed():
    base = Genesis(nodes(4))

    def first(genesis):
        return ChainNode(genesis).head.hash

    assert first(base) == first(Genesis(nodes(4)))
    others = [
        replace(base, members=nodes(5)),
        replace(base, members=nodes(4)[::-1]),
        replace(base, time_s=1),
        replace(base, escrow_wei=1),
        replace(base, agreed=bytes([1]) * 32),
        replace(base, balances={STRANGER.node_id: 1}),
        replace(base, fork="cancun"),
    ]
    assert len({first(one) for one in [base, *others]}) == 8


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"members": ()}, "1 .. 64 members, got 0"),
        ({"members": (b"x" * 20,) * 2}, "different node ids"),
        ({"fork": "london"}, "prague, cancun, got 'london'"),
        ({"chain_id": 0}, "chain_id is at least 1, got 0"),
        ({"balances": {b"x" * 20: -1}}, "0 or more wei"),
        ({"faults": "none"}, "'byzantine' or 'crash'"),
    ],
)
def test_genesis_says_what_would_work(change, why):
    with pytest.raises(ConfigError, match=why):
        Genesis(**{"members": nodes(4), **change})


def test_another_chains_folder_is_refused(tmp_path):
    database = Database(tmp_path / "chain.db")
    ChainNode(Genesis(nodes(4)), database).close()
    with pytest.raises(IntegrityError, match="begins with"):
        ChainNode(Genesis(nodes(5)), Database(tmp_path / "chain.db"))


def test_cancun_runs_the_same_rounds():
    bench = Bench(fork="cancun")
    assert bench.block() and bench.read("Members", "quorum") == 3


# ---------------------------------------------------------------- restarts


def test_a_restart_reaches_the_same_head_and_continues(tmp_path):
    bench = Bench(database=Database(tmp_path / "chain.db"))
    for i in range(3):
        bench.block(vote(bench, i))
    head, members = bench.node.head.hash, bench.node.members_at(bench.node.head)
    bench.node.close()
    again = Bench(database=Database(tmp_path / "chain.db"))
    again.round = 3
    assert again.node.head.hash == head and again.node.members_at(again.node.head) == members
    assert again.node.seal_of(head).round == 3
    again.keys = (*again.keys, STRANGER)
    again.block(vote(again, 3, keys(6)[5]))
    assert again.node.height == 4


class Dying(Database):
    """Stops at write number `die_at` of all transactions, in the middle of it."""

    die_at = None
    count = 0

    def _write(self, writes):
        if self.die_at is None:
            return super()._write(writes)
        self.count += 1
        if self.count < self.die_at:
            return super()._write(writes)
        self._sql.execute("BEGIN IMMEDIATE")
        for key, value in list(writes.items())[: len(writes) // 2]:
            self._sql.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value or b""))
        raise KeyboardInterrupt


@pytest.mark.parametrize("die_at", [1, 2, 3])
def test_a_process_that_dies_while_importing_has_the_block_whole_or_not_at_all(tmp_path, die_at):
    database = Dying(tmp_path / "chain.db")
    bench = Bench(database=database)
    database.die_at = die_at
    done = 0
    try:
        while True:
            payload = bench.node.build(nodes(4)[0], 10 + done, bytes(32), [vote(bench, done)])
            bench.node.import_final(payload, bench.seal(payload), {b"applied": b"%d" % done})
            done += 1
    except KeyboardInterrupt:
        database._sql.close()  # as the system does for a dead process: nothing is committed
    assert done == die_at - 1
    again = Bench(database=Database(tmp_path / "chain.db"))
    assert again.node.height == done
    assert again.node.database.get(b"applied") == (b"%d" % (done - 1) if done else None)
    again.round = done
    again.node.import_final(payload, again.seal(payload))
    assert again.node.height == done + 1


ENDLESS = """
import sys
from pathlib import Path
from consensus.chain.database import Database
from tests.consensus.chain.chains import Bench
bench = Bench(database=Database(Path(sys.argv[1])))
bench.round = bench.node.height
print("begun", flush=True)
while True:
    payload = bench.node.build(bench.keys[0].node_id, bench.node.head.timestamp + 1, bytes(32))
    bench.node.import_final(payload, bench.seal(payload), {b"applied": b"%d" % bench.round})
"""


def test_a_call_keeps_nothing_and_may_run_beside_an_import(monkeypatch):
    """Nothing reaches the database while a contract is asked, a transaction is not even opened."""
    bench = Bench()
    writes = []
    monkeypatch.setattr(Database, "_put", lambda self, key, value: writes.append(key))
    assert bench.why(bench.keys[0], "Members", "approve", STRANGER.node_id, True) == ""
    assert bench.read("Members", "quorum") == 3 and writes == []


@pytest.mark.slow
def test_sigkill_at_any_moment_leaves_a_chain_that_continues(tmp_path):
    path, heights = tmp_path / "chain.db", [0]
    for turn in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(path)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.3 + 0.037 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
        node = ChainNode(Genesis(nodes(4)), Database(path), check=CHECK)
        assert node.height > heights[-1]
        assert node.database[b"applied"] == b"%d" % node.height  # in the same transaction
        for height in range(heights[-1] + 1, node.height + 1):
            header = node.header_at(height)
            assert header.parent_hash == node.header_at(height - 1).hash
            assert key_of(header.hash) in node.database
        heights.append(node.height)
        node.close()


def test_a_full_disk_refuses_the_block_and_the_head_stays(tmp_path):
    database = Database(tmp_path / "chain.db")
    bench = Bench(database=database)
    bench.block()
    head = bench.node.head.hash
    pages = database._sql.execute("PRAGMA page_count").fetchone()[0]
    database._sql.execute(f"PRAGMA max_page_count = {pages}")
    payload = bench.node.build(nodes(4)[0], 99, bytes(32), [vote(bench, i) for i in range(4)])
    with pytest.raises(DataError, match="cannot keep a block: database or disk is full"):
        bench.node.import_final(payload, bench.seal(payload), {b"much": bytes(1 << 20)})
    assert bench.node.head.hash == head and b"much" not in database
    database._sql.execute("PRAGMA max_page_count = 1000000")
    bench.node.import_final(payload, bench.seal(payload))
    assert bench.node.height == 2 and bench.nonce(bench.keys[3]) == 1


def test_a_damaged_database_is_named(tmp_path):
    path = tmp_path / "chain.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(DataError, match="cannot be opened"):
        Database(path)
    with pytest.raises(DataError, match="cannot be opened"):
        Database(tmp_path / "missing" / "chain.db")


# ---------------------------------------------------------------- the database itself


def test_a_transaction_is_kept_whole_or_not_at_all(tmp_path):
    database = Database(tmp_path / "kv.db")
    database[b"a"] = b"1"
    with pytest.raises(ValueError), database.transaction():
        database[b"a"] = b"2"
        database[b"b"] = b"3"
        assert database[b"a"] == b"2" and b"b" in database
        raise ValueError
    assert database[b"a"] == b"1" and b"b" not in database
    with database.transaction():
        del database[b"a"]
        database[b"b"] = b"3"
        with pytest.raises(KeyError):
            database[b"a"]
    assert b"a" not in database and Database(tmp_path / "kv.db")[b"b"] == b"3"


def test_a_batch_inside_a_transaction_falls_alone():
    database = Database()
    with database.transaction():
        database[b"a"] = b"1"
        with pytest.raises(ValueError), database.atomic_batch() as batch:
            batch[b"a"] = b"2"
            raise ValueError
        assert database[b"a"] == b"1"
    assert database[b"a"] == b"1"


def test_looking_ahead_keeps_nothing_and_can_be_repeated():
    database = Database()
    with database.transaction(commit=False) as writes:
        database[b"a"] = b"1"
        kept = dict(writes)
    assert b"a" not in database
    with database.transaction():
        database.apply(kept)
    assert database[b"a"] == b"1"
    with pytest.raises(KeyError):
        del database[b"b"]
    second = database.transaction()
    with database.transaction(), pytest.raises(DataError, match="open already"):
        second.__enter__()


def test_the_file_is_sqlite_in_write_ahead_mode(tmp_path):
    Database(tmp_path / "kv.db")[b"k"] = b"v"
    rows = sqlite3.connect(tmp_path / "kv.db")
    assert rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert rows.execute("SELECT * FROM kv").fetchall() == [(b"k", b"v")]
