"""Attacks of `scenario=pofel_security` on limits: memory, open connections, disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from consensus.bft.messages import Items, Message
from consensus.chain.store import ModelStore
from consensus.encoding import encode
from consensus.identity import Key
from consensus.judge import Judge
from consensus.network.hello import Credentials
from consensus.network.processes import Limits, ProcessNetwork
from consensus.network.simulated_disk import SimulatedDisk
from consensus.ordering import BftOrdering
from consensus.pofel.messages import Commit, Entry, Reveal
from consensus.raft.messages import ConfState, EntryKind, HardState
from consensus.raft.messages import Entry as RaftEntry
from consensus.wal import WriteAheadLog
from experiments.cells.pofel_security import Arena, Finding, answer, as_expected, decoded
from fedalign.core.errors import DataError, IntegrityError
from fedalign.core.seeds import Seeds

AT_ONCE = 1000  # tiny messages in one


def resources(arena: Arena) -> Iterator[Finding]:
    """T-16: what a server may be sent costs bounded memory and time."""
    chain = arena.chain()
    machine, key = chain.members[0].machine, chain.members[1].key
    yield as_expected("T-16", "lists nested 10,000 deep", "refused", decoded(_nested(10_000)))
    huge = Reveal(bytes(32), bytes(32), 1 << 20, 1 << 40, b"<i4", bytes(32))
    entry = Entry.sign(key, chain.chain_id, 1, huge)
    yield as_expected("T-16", "a reveal of a terabyte", "other_phase", answer(machine, entry))
    size, began = len(machine.snapshot()), process_time()
    for k in range(2000):
        machine.apply(Entry.sign(key, chain.chain_id, 2 + k, Commit(bytes(32), 0, bytes(32), k)))
    spent = process_time() - began
    grown = len(machine.snapshot()) - size
    yield Finding(
        "T-16", "2000 signed entries out of place", "state does not grow, > 500 entries/s",
        f"{grown} bytes more, {2000 / spent:.0f} entries/s", grown == 0 and spent < 4,
    )  # fmt: skip


def _nested(depth: int) -> bytes:
    item = b"\xc0"
    for _ in range(depth):
        item = _in_list(item)
    return item


def _in_list(item: bytes) -> bytes:
    """RLP of a list with one item that is encoded already."""
    if len(item) < 56:
        return bytes([0xC0 + len(item)]) + item
    size = len(item).to_bytes((len(item).bit_length() + 7) // 8, "big")
    return bytes([0xF7 + len(size)]) + size + item


def floods(arena: Arena) -> Iterator[Finding]:
    """T-16: a million tiny messages, chunks without end, a caller that never finishes its hello."""
    chain = arena.chain()
    judge = Judge(chain.members[0], lambda: 0.0)
    core = BftOrdering().core(0, arena.servers, Seeds(arena.seed).at("flood"), judge)
    for first in range(0, arena.messages, AT_ONCE):
        items = tuple(b"%d" % k for k in range(first, min(first + AT_ONCE, arena.messages)))
        core.step(Message(0, Items(items), 1))
    good = Entry.sign(chain.members[1].key, chain.chain_id, 1, Commit(bytes(32), 1, bytes(32), 1))
    core.step(Message(0, Items((good.encode(),)), 1))
    kept, goes_on = len(core._early), core.next_batch() == (good.encode(),)
    yield Finding(
        "T-16", f"{arena.messages:,} tiny items for one server of the order",
        "refused and counted, at most 1,024 remembered; the next good one is ordered",
        f"{judge.refused['malformed']:,} refused, {kept:,} remembered; the good one "
        f"{'is' if goes_on else 'is not'} ordered",
        judge.refused["malformed"] == arena.messages and kept <= 1024 and goes_on,
    )  # fmt: skip
    with TemporaryDirectory() as place:
        store, bomb = ModelStore(Path(place)), encode([1 << 40, 1, [bytes(32)] * 2])
        try:
            store.begin(bytes(32), bomb)
            seen = "expected"
        except (DataError, IntegrityError):
            seen = "refused"
    yield as_expected("T-16", "a manifest of a terabyte in chunks of a byte", "refused", seen)
    yield as_expected(
        "T-16", "a caller that never ends its hello", "cut off", asyncio.run(_dawdle())
    )


async def _dawdle() -> str:
    """Half a frame to a listening server, then silence."""
    key = Key(bytes([3]) * 32)
    with TemporaryDirectory() as place:
        address = f"{place}/server"
        network = ProcessNetwork(
            Credentials(0, key, 1, {0: key.node_id}), {0: f"unix:{address}"},
            lambda sender, frame: None, Limits(hello_s=0.2),
        )  # fmt: skip
        await network.start()
        reader, writer = await asyncio.open_unix_connection(address)
        writer.write(b"\0\0")
        try:
            await asyncio.wait_for(reader.read(), 5)
            seen = "cut off"
        except ConnectionError:
            seen = "cut off"
        except TimeoutError:
            seen = "still open"
        writer.close()
        await network.close()
    return seen if network.counters["refused silent"] == 1 else "not counted"


def disks(arena: Arena) -> Iterator[Finding]:
    """T-22: what a write-ahead log does with a disk that failed."""
    rng = Seeds(arena.seed).at("disks")
    disk = SimulatedDisk()
    log = _log(disk)
    log.save(None, [_entry(4)], None, sync=False)
    disk.crash(rng)
    kept = _load(disk)
    yield Finding(
        "T-22", "power fails before the last write is forced", "what was forced is there",
        kept, kept in ("3 entries", "4 entries"),
    )  # fmt: skip
    disk = SimulatedDisk()
    log = _log(disk)
    name = next(n for n in disk.names() if disk.read(n))
    data = disk.read(name)
    place = data.find(b"entry 2")
    disk.write(name, place, bytes([data[place] ^ 1]))
    yield as_expected("T-22", "a bit flips in an old record", "refuses to start", _load(disk))
    disk = SimulatedDisk()
    log = _log(disk)
    disk.fail_sync = True
    try:
        log.save(HardState(2, 0, 3), [_entry(4)], None, sync=True)
        seen = "went on"
    except OSError:
        seen = "stops the server"
    yield as_expected("T-22", "the disk cannot force a write out", "stops the server", seen)
    disk = SimulatedDisk()
    log = _log(disk)
    disk.full = True
    try:
        log.save(HardState(2, 0, 3), [_entry(4)], None, sync=True)
        seen = "went on"
    except OSError:
        disk.full = False
        disk.crash(rng)
        seen = f"stops the server; with room again it has {_load(disk)}"
    yield as_expected(
        "T-22", "the disk is full", "stops the server; with room again it has 3 entries", seen
    )


def _entry(index: int) -> RaftEntry:
    return RaftEntry(1, index, EntryKind.NORMAL, f"entry {index}".encode())


def _log(disk: SimulatedDisk) -> WriteAheadLog:
    """Three entries, each forced out."""
    log = WriteAheadLog(disk, ConfState((0,)), segment_bytes=16_384, reserve=False)
    log.load()
    for index in (1, 2, 3):
        log.save(HardState(1, 0, index), [_entry(index)], None, sync=True)
    return log


def _load(disk: SimulatedDisk) -> str:
    try:
        found = WriteAheadLog(disk, ConfState((0,)), segment_bytes=16_384, reserve=False).load()
    except IntegrityError:
        return "refuses to start"
    return f"{len(found.entries)} entries"


LIMITS: tuple[Callable[[Arena], Iterator[Finding]], ...] = (resources, floods, disks)
