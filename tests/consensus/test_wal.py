"""The write-ahead log: torn at every byte it forgets no promise, damaged in the middle it refuses."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import wal_records
from consensus.disk import FolderDisk
from consensus.network.simulated_disk import SimulatedDisk
from consensus.raft.messages import ConfState, Entry, EntryKind, HardState, Snapshot
from consensus.raft.storage import Durable, MemoryStorage
from consensus.wal import WriteAheadLog
from fedalign.core.errors import ConfigError, IntegrityError

CONF = ConfState((0, 1, 2), (), (3,))


def entry(index, term=1, data=b"payload", kind=EntryKind.NORMAL):
    return Entry(term, index, kind, data)


def opened(disk, **more):
    wal = WriteAheadLog(disk, CONF, reserve=False, **more)
    return wal, wal.load()


def segment(disk):
    return max((n for n in disk.names() if n.startswith("wal-")), key=lambda n: int(n[5:]))


BATCHES = [
    (HardState(1, 2, 0), [entry(1), entry(2)]),
    (HardState(1, 2, 1), [entry(3, data=b"")]),
    (None, [entry(4, 2), entry(5, 2, kind=EntryKind.CONFIG)]),
    (HardState(3, -1, 3), [entry(4, 3, b"x" * 300)]),
]


def written(disk, batches=BATCHES):
    """The end of the file, and what a restart must find, after every batch."""
    wal, _ = opened(disk)
    model, ends = MemoryStorage(Durable(snapshot=Snapshot(conf=CONF))), []
    ends.append((len(disk.read(segment(disk))), model.load()))
    for hard, entries in batches:
        wal.save(hard, entries, None, sync=True)
        model.save(hard, entries, None)
        ends.append((len(disk.read(segment(disk))), model.load()))
    return ends


def test_a_first_start_finds_the_initial_configuration():
    disk = SimulatedDisk()
    assert opened(disk)[1] == Durable(HardState(), Snapshot(conf=CONF), ())
    assert opened(disk)[1] == Durable(HardState(), Snapshot(conf=CONF), ())


@pytest.mark.parametrize("make", [SimulatedDisk, None])
def test_everything_saved_is_found_again(make, tmp_path):
    disk = make() if make else FolderDisk(tmp_path)
    expected = written(disk)[-1][1]
    assert expected.entries == (entry(1), entry(2), entry(3, data=b""), entry(4, 3, b"x" * 300))
    assert opened(disk)[1] == expected
    if not make:
        disk.close()


def test_reserved_room_is_no_record(tmp_path):
    disk = FolderDisk(tmp_path)
    wal = WriteAheadLog(disk, CONF, segment_bytes=8192)
    wal.load()
    wal.save(HardState(1, 0, 0), [entry(1)], None, sync=True)
    assert (tmp_path / segment(disk)).stat().st_size == 8192
    disk.close()
    assert WriteAheadLog(FolderDisk(tmp_path), CONF).load().entries == (entry(1),)


def test_a_tail_torn_at_every_byte_keeps_all_earlier_batches():
    """Cut the last write anywhere: all batches before it are found, and the log can go on."""
    whole = SimulatedDisk()
    ends = written(whole)
    name, data = segment(whole), whole.read(segment(whole))
    (start, before), (_, after) = ends[-2], ends[-1]
    for cut in range(start, len(data)):
        disk = SimulatedDisk()
        written(disk)
        disk.truncate(name, cut)
        wal, found = opened(disk)
        assert found.entries == before.entries
        assert found.hard_state in (before.hard_state, after.hard_state)
        wal.save(HardState(4, 1, 3), [entry(4, 4)], None, sync=True)
        assert opened(disk)[1].entries == (*before.entries[:3], entry(4, 4))


def test_a_flipped_bit_in_the_middle_refuses_to_start():
    """Every byte that a later batch says was durable: never silently another log."""
    whole = SimulatedDisk()
    ends = written(whole)
    name, durable = segment(whole), ends[-2][0]
    for position in range(durable):
        disk = SimulatedDisk()
        written(disk)
        byte = disk.read(name)[position]
        disk.write(name, position, bytes([byte ^ 0x10]))
        with pytest.raises(IntegrityError):
            opened(disk)


def test_zeros_in_the_middle_refuse_to_start():
    disk = SimulatedDisk()
    ends = written(disk)
    start = ends[1][0]
    disk.write(segment(disk), start, bytes(ends[2][0] - start))
    with pytest.raises(IntegrityError, match=f"damaged at byte {start}"):
        opened(disk)


def test_segments_follow_each_other_and_a_missing_one_is_noticed():
    disk = SimulatedDisk()
    wal, _ = opened(disk, segment_bytes=4096)
    model = MemoryStorage(Durable(snapshot=Snapshot(conf=CONF)))
    for index in range(1, 40):
        wal.save(None, [entry(index, data=b"y" * 400)], None, sync=True)
        model.save(None, [entry(index, data=b"y" * 400)], None)
    names = [n for n in disk.names() if n.startswith("wal-")]
    assert Counter(n[4] for n in names) == {"c": 1, "s": len(names) - 1} and len(names) > 3
    assert opened(disk, segment_bytes=4096)[1] == model.load()
    disk.remove(sorted(names, key=lambda n: int(n[5:]))[2])
    with pytest.raises(IntegrityError, match="is missing"):
        opened(disk, segment_bytes=4096)


def test_damage_in_an_earlier_segment_refuses_to_start():
    disk = SimulatedDisk()
    wal, _ = opened(disk, segment_bytes=4096)
    for index in range(1, 30):
        wal.save(None, [entry(index, data=b"y" * 400)], None, sync=True)
    second = sorted((n for n in disk.names() if n.startswith("wal-")), key=lambda n: int(n[5:]))[1]
    end = len(disk.read(second))
    disk.truncate(second, end - 100)  # even a cut end: only the last segment may be torn
    with pytest.raises(IntegrityError, match="damaged"):
        opened(disk, segment_bytes=4096)


def test_a_snapshot_replaces_older_segments_and_keeps_what_follows():
    disk = SimulatedDisk()
    wal, _ = opened(disk)
    wal.save(HardState(1, 0, 4), [entry(i) for i in range(1, 6)], None, sync=True)
    snapshot = Snapshot(3, 1, CONF, b"application state")
    wal.save(None, (), snapshot, sync=True)
    wal.save(None, [entry(6)], None, sync=True)
    assert len(disk.names()) == 2
    assert opened(disk)[1] == Durable(HardState(1, 0, 4), snapshot, (entry(4), entry(5), entry(6)))


def test_a_received_snapshot_that_differs_drops_the_log():
    disk = SimulatedDisk()
    wal, _ = opened(disk)
    wal.save(HardState(1, 0, 1), [entry(i) for i in range(1, 6)], None, sync=True)
    wal.save(HardState(2, 0, 9), (), Snapshot(9, 2, CONF, b"s"), sync=True)
    assert opened(disk)[1] == Durable(HardState(2, 0, 9), Snapshot(9, 2, CONF, b"s"), ())


def test_a_damaged_snapshot_refuses_to_start():
    disk = SimulatedDisk()
    wal, _ = opened(disk)
    wal.save(HardState(1, 0, 1), [entry(1)], None, sync=True)
    wal.save(None, (), Snapshot(1, 1, CONF, b"application state"), sync=True)
    name = next(n for n in disk.names() if n.startswith("snap-"))
    disk.write(name, 3, b"?")
    with pytest.raises(IntegrityError, match="missing or damaged"):
        opened(disk)


def test_a_torn_batch_keeps_no_commit_beyond_its_entries():
    """The hard state of the batch says commit 9, its entries 1-9 are cut off: commit 0."""
    disk = SimulatedDisk()
    wal, _ = opened(disk)
    wal.save(HardState(1, 0, 9), [entry(i) for i in range(1, 10)], None, sync=False)
    disk.truncate(segment(disk), len(disk.read(segment(disk))) - 1)
    assert opened(disk)[1] == Durable(HardState(1, 0, 0), Snapshot(conf=CONF), ())


def test_a_failed_sync_is_an_error_not_a_retry():
    disk = SimulatedDisk()
    wal, _ = opened(disk)
    disk.fail_sync = True
    with pytest.raises(OSError, match="could not force"):
        wal.save(HardState(1, 0, 0), [entry(1)], None, sync=True)


def test_one_sync_per_batch():
    disk = SimulatedDisk()
    wal, _ = opened(disk)
    before = disk.syncs
    wal.save(HardState(1, 0, 0), [entry(i) for i in range(1, 200)], None, sync=True)
    wal.save(HardState(1, 0, 5), (), None, sync=False)
    assert disk.syncs == before + 1


def test_tiny_segments_are_refused():
    with pytest.raises(ConfigError, match="at least 4096"):
        WriteAheadLog(SimulatedDisk(), CONF, segment_bytes=10)


OPERATIONS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 3), st.booleans(), st.booleans()), max_size=14
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.integers(0, 2**32))
def test_crashes_keep_what_was_forced_and_only_what_was_written(operations, seed):
    """Model: after a crash the state is that of some moment between the last sync and the end."""
    disk = SimulatedDisk()
    wal, _ = opened(disk, segment_bytes=4096)
    model = MemoryStorage(Durable(snapshot=Snapshot(conf=CONF)))
    possible = [model.load()]
    for number, (count, back, sync, snapshot) in enumerate(operations, 1):
        last = model.snapshot.index + len(model.entries)
        first = max(last - back, model.snapshot.index) + 1
        batch = [entry(first + i, number, b"z" * 250) for i in range(count)]
        hard = HardState(number, 0, model.snapshot.index)
        wal.save(hard, batch, None, sync)
        model.save(hard, batch, None)
        possible = [model.load()] if sync else [*possible, model.load()]
        if snapshot:
            taken = Snapshot(first, number, CONF, b"state")
            hard = HardState(number, 0, first)
            wal.save(hard, (), taken, sync=True)
            model.save(hard, (), taken)
            possible = [model.load()]
    disk.crash(np.random.default_rng(seed))
    found = opened(disk, segment_bytes=4096)[1]
    assert found.snapshot in [state.snapshot for state in possible]
    assert found.entries in [state.entries for state in possible]
    assert found.hard_state.term >= possible[0].hard_state.term


ENTRIES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(EntryKind), st.binary(max_size=5)), min_size=1
)


@given(ENTRIES, st.integers(1, 2**40))
def test_entries_round_trip(drawn, first):
    batch = [Entry(term, first + i, kind, data) for i, (term, kind, data) in enumerate(drawn)]
    found = wal_records.read(wal_records.entries(batch), 0)
    assert wal_records.to_entries(found.payload) == batch


@given(st.binary(max_size=40))
def test_noise_is_no_record(noise):
    assert wal_records.read(noise, 0) is None
