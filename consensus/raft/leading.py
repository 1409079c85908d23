"""Leading: what a leader does to keep every log like its own.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Sections 3.5, 5.4.2, 10.2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.raft import membership, reads, transfer
from consensus.raft.messages import NONE, Entry, EntryKind, Kind, Message, Role
from consensus.raft.progress import Pace, Progress
from consensus.raft.state import State


def begin(raft: State) -> None:
    """Take office: an empty entry of the new term lets older ones be committed with it.

    One's own match is what the disk holds; an inherited configuration change may still be in the
    log, so no new one is accepted before everything inherited is applied.
    """
    raft.reset(raft.term)
    raft.role, raft.leader = Role.LEADER, raft.id
    raft.pending_conf_index = raft.log.last
    append(raft, [(EntryKind.NORMAL, b"")])
    own = raft.tracker.progress[raft.id]
    own.become_replicate()
    own.update(raft.log.stable)
    broadcast(raft)


def append(raft: State, items: Sequence[tuple[EntryKind, bytes]]) -> None:
    """Add entries of the current term to one's own log."""
    term, first = raft.term, raft.log.last + 1
    raft.log.append(
        [Entry(term, index, kind, data) for index, (kind, data) in enumerate(items, first)]
    )


# ---------------------------------------------------------------------- towards followers


def broadcast(raft: State) -> None:
    """Send everyone what is new, or at least the commit index."""
    for follower in raft.tracker.progress:
        if follower != raft.id:
            send_append(raft, follower)


def send_append(raft: State, to: int, if_empty: bool = True) -> bool:
    """Send what `to` lacks, within its limits; a snapshot if the log no longer reaches back."""
    progress, log = raft.tracker.progress[to], raft.log
    if progress.is_paused():
        return False
    before = progress.next - 1
    log_term = log.term(before)
    if log_term is None:
        return _send_snapshot(raft, to, progress)
    entries: list[Entry] = []
    size = 0
    if before < log.last and not (progress.pace is Pace.REPLICATE and progress.full()):
        entries = log.slice(before + 1, log.last, raft.config.max_message_bytes)
        size = log.size(before + 1, before + len(entries))
    if not entries and not if_empty:
        return False
    raft.messages.append(
        Message(Kind.APP, to, raft.id, raft.term, log_term, before, log.committed, entries=entries)
    )
    progress.sent(len(entries), size)
    progress.sent_commit = log.committed
    return True


def _send_snapshot(raft: State, to: int, progress: Progress) -> bool:
    if not progress.recent_active:
        return False  # it would be in vain
    progress.become_snapshot(raft.log.snapshot.index)
    raft.send(Message(Kind.SNAP, to, snapshot=raft.log.snapshot))
    return True


def send_heartbeats(raft: State, context: bytes = b"") -> None:
    """Claim office; the commit index told never exceeds what the follower is known to have."""
    for follower, progress in raft.tracker.progress.items():
        if follower != raft.id:
            commit = min(progress.match, raft.log.committed)
            raft.send(Message(Kind.HEARTBEAT, follower, commit=commit, context=context))


def check_quorum(raft: State) -> None:
    """Step down unless a majority was heard from since the last check."""
    progress = raft.tracker.progress
    if raft.id in progress:
        progress[raft.id].recent_active = True
    if not raft.tracker.quorum_active():
        raft.become_follower(raft.term, NONE)
        return
    for follower in progress.values():
        follower.recent_active = False


# ---------------------------------------------------------------------- from followers


def on_append_answer(raft: State, message: Message) -> None:
    """A follower has stored, or refused, an append."""
    progress = raft.tracker.progress.get(message.sender)
    if progress is None:
        return
    progress.recent_active = True
    if message.reject:
        _on_refusal(raft, message, progress)
        return
    was_paused = progress.is_paused()
    news = progress.update(message.index)
    if not news and not (progress.match == message.index and progress.pace is Pace.PROBE):
        return
    _speed_up(raft, message.index, progress)
    if not maybe_commit(raft) and (
        was_paused or (raft.config.commit_broadcast and progress.sent_commit < raft.log.committed)
    ):
        send_append(raft, message.sender)
    while send_append(raft, message.sender, if_empty=False):
        pass
    transfer.maybe_complete(raft, message.sender)


def _speed_up(raft: State, index: int, progress: Progress) -> None:
    if progress.pace is Pace.PROBE:
        progress.become_replicate()
    elif progress.pace is Pace.REPLICATE:
        progress.acknowledged(index)
    elif progress.match >= raft.log.offset:  # the log reaches it again
        progress.become_probe()
        progress.become_replicate()


def _on_refusal(raft: State, message: Message, progress: Progress) -> None:
    """Skip all terms that cannot be common: the hint is the follower's best candidate."""
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = raft.log.last_not_after(hint, message.log_term)
    if progress.decrease(message.index, hint):
        if progress.pace is Pace.REPLICATE:
            progress.become_probe()
        send_append(raft, message.sender)


def maybe_commit(raft: State) -> bool:
    """Commit what a majority holds, counting replicas of entries of the current term only."""
    index = raft.tracker.committed()
    if index <= raft.log.committed or raft.log.term(index) != raft.term:
        return False
    raft.log.commit_to(index)
    reads.release(raft)
    if raft.config.commit_broadcast:
        broadcast(raft)
    return True


def on_own_disk(raft: State) -> None:
    """One's own entries are durable: only now do they count."""
    own = raft.tracker.progress.get(raft.id)
    if own is not None and own.update(raft.log.stable):
        maybe_commit(raft)


def on_heartbeat_answer(raft: State, message: Message) -> None:
    """The follower lives: wake it if it was paused, feed it if it lacks something."""
    progress = raft.tracker.progress.get(message.sender)
    if progress is None:
        return
    progress.recent_active, progress.paused = True, False
    if (
        progress.match < raft.log.last
        or progress.pace is Pace.PROBE
        or progress.sent_commit < raft.log.committed
    ):
        send_append(raft, message.sender)
    reads.on_heartbeat_answer(raft, message)


def on_snapshot_status(raft: State, follower: int, failed: bool) -> None:
    """The driver's news of a snapshot it carried; then wait for the follower's own answer."""
    progress = raft.tracker.progress.get(follower)
    if progress is None or progress.pace is not Pace.SNAPSHOT:
        return
    if failed:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.paused = True


def retry_snapshots(raft: State) -> None:
    """A snapshot that got no answer for long is sent again."""
    for follower, progress in raft.tracker.progress.items():
        if progress.pace is Pace.SNAPSHOT:
            progress.snapshot_age += 1
            if progress.snapshot_age >= raft.config.snapshot_retry_tick:
                progress.pending_snapshot = 0
                progress.become_probe()
                send_append(raft, follower)


def on_unreachable(raft: State, follower: int) -> None:
    """The driver could not deliver: stop pipelining into the void."""
    progress = raft.tracker.progress.get(follower)
    if progress is not None and progress.pace is Pace.REPLICATE:
        progress.become_probe()


def refusal(raft: State, items: Sequence[tuple[EntryKind, bytes]]) -> str:
    """Why a leader cannot take these proposals now; empty if it can."""
    if raft.id not in raft.tracker.progress:
        return "this leader is no longer a member"
    if raft.transferee != NONE:
        return f"leadership is being transferred to server {raft.transferee}"
    waiting = raft.log.size(raft.log.committed + 1, raft.log.last)
    size = sum(len(data) for _, data in items)
    if waiting and waiting + size > raft.config.max_uncommitted_bytes:
        return (
            f"{waiting} bytes wait to be committed, {size} more would exceed "
            f"max_uncommitted_bytes={raft.config.max_uncommitted_bytes}"
        )
    return membership.refusal(raft, items)
