"""The log: small cases by hand, and hypothesis against a plain list."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.raft.log import Log
from consensus.raft.messages import ConfState, Entry, EntryKind, Snapshot
from consensus.raft.progress import Pace, Progress
from fedalign.core.errors import IntegrityError
from tests.consensus.raft.bench import log_of


def log(*terms, commit=0, data=b""):
    return Log(Snapshot(conf=ConfState((0,))), log_of(*terms, data=data), commit)


def test_terms_and_ends():
    some = log(1, 1, 2)
    assert (some.last, some.last_term) == (3, 2)
    assert [some.term(i) for i in range(5)] == [0, 1, 1, 2, None]


@pytest.mark.parametrize(
    ("index", "term", "ok"),
    [(3, 2, True), (2, 2, False), (4, 2, True), (9, 1, False), (1, 3, True)],
)
def test_up_to_date_compares_terms_first(index, term, ok):
    """Thesis 3.6.1: the later last term wins; equal terms, the longer log."""
    assert log(1, 1, 2).up_to_date(index, term) is ok


def test_slices_respect_bytes_but_never_starve():
    """Entries of 10 bytes: 25 bytes hold two, 1 byte still one."""
    some = log(1, 1, 1, 1, data=b"0123456789")
    assert len(some.slice(1, 4, 25)) == 2
    assert len(some.slice(2, 4, 1)) == 1
    assert len(some.slice(1, 4, 40)) == 4
    assert some.size(2, 3) == 20


def test_sizes_survive_cuts_and_compaction():
    some = log(1, 1, 1, 1, data=b"0123456789")
    some.append([Entry(2, 3, EntryKind.NORMAL, b"abc")])
    assert (some.size(1, 3), some.last) == (23, 3)
    some.commit_to(3)
    some.applied = 3
    some.compact(Snapshot(2, 1, ConfState((0,))), keep=0)
    assert (some.offset, some.offset_term, some.size(3, 3)) == (2, 1, 3)
    assert some.term(1) is None and some.term(2) == 1


def test_compaction_keeps_a_tail_and_never_more_than_is_applied():
    some = log(*[1] * 10, commit=10)
    some.applied = 6
    some.compact(Snapshot(8, 1, ConfState((0,))), keep=2)
    assert some.offset == 4


@pytest.mark.parametrize(
    ("index", "term", "answer"), [(7, 3, (7, 3)), (7, 2, (4, 2)), (7, 1, (2, 1)), (9, 1, (9, 0))]
)
def test_last_not_after(index, term, answer):
    """Terms 1,1,2,2,3,3,3."""
    assert log(1, 1, 2, 2, 3, 3, 3).last_not_after(index, term) == answer


def test_what_was_lost_is_noticed():
    with pytest.raises(IntegrityError, match="ends at 2 but index 5 is said to be committed"):
        log(1, 1).commit_to(5)
    with pytest.raises(IntegrityError, match="is to grow at 7"):
        log(1, 1).append([Entry(1, 7, EntryKind.NORMAL, b"")])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_accepting_appends_of_growing_terms_keeps_log_matching(data):
    """Model: leaders of terms 1..4 each extend some prefix; any piece of any leader's log arrives.

    Whatever is accepted, (index, term) equal to the leader's means the same prefix as the leader's.
    """
    leaders, mine = {}, log()
    base = []
    for term in range(1, 5):
        base = base[: data.draw(st.integers(0, len(base)))] + [term] * data.draw(st.integers(1, 3))
        leaders[term] = list(base)
    for _ in range(data.draw(st.integers(1, 12))):
        terms = leaders[data.draw(st.sampled_from(sorted(leaders)))]
        start = data.draw(st.integers(0, len(terms)))
        stop = data.draw(st.integers(start, len(terms)))
        before = [entry.term for entry in mine.entries]
        piece = log_of(*terms)[start:stop]
        last = mine.accept(start, terms[start - 1] if start else 0, piece)
        after = [entry.term for entry in mine.entries]
        if last is None:
            assert after == before
        else:
            assert last == stop and after[:stop] == terms[:stop]
            assert after[stop:] in ([], before[stop:])
        assert [entry.index for entry in mine.entries] == list(range(1, len(after) + 1))


# ---------------------------------------------------------------------- progress


def fed(pace=Pace.REPLICATE, match=5, messages=3, size=0):
    progress = Progress(match + 1, messages, size)
    progress.match, progress.pace = match, pace
    return progress


def test_the_window_counts_messages():
    progress = fed(messages=2)
    progress.sent(3, 30)
    assert progress.next == 9 and not progress.is_paused()
    progress.sent(1, 10)
    assert progress.is_paused()
    progress.acknowledged(8)
    assert not progress.is_paused()


def test_the_window_counts_bytes():
    progress = fed(messages=100, size=50)
    progress.sent(1, 49)
    assert not progress.is_paused()
    progress.sent(1, 1)
    assert progress.is_paused()
    progress.acknowledged(6)
    assert not progress.full()


def test_probing_waits_and_a_refusal_moves_it():
    progress = fed(Pace.PROBE, match=0)
    progress.next = 8
    progress.sent(1, 1)
    assert progress.is_paused() and progress.next == 8
    assert not progress.decrease(5, 2)  # an answer to an earlier probe
    assert progress.decrease(7, 3) and progress.next == 4 and not progress.is_paused()


def test_a_failed_snapshot_starts_again_from_match_a_good_one_behind_it():
    progress = fed()
    progress.become_snapshot(20)
    assert progress.is_paused()
    copy = progress.copy()
    progress.become_probe()
    assert progress.next == 21
    copy.pending_snapshot = 0
    copy.become_probe()
    assert copy.next == 6
