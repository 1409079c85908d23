"""Reads: linearizable reads that write nothing to the log.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Section 6.4.
"""

from __future__ import annotations

from consensus.raft import leading
from consensus.raft.messages import NONE, Kind, Message, ReadState
from consensus.raft.quorum import VoteResult
from consensus.raft.state import State


def request(raft: State, message: Message) -> None:
    """A read reached the leader; `message.sender` (NONE: here) asked with a unique context.

    Before an entry of this term is committed the leader does not know what is.
    """
    if not raft.committed_in_term():
        raft.waiting_reads.append(message)
    else:
        _begin(raft, message)


def _begin(raft: State, message: Message) -> None:
    alone = {raft.id: True}
    # A transfer lets voters ignore their lease, so the lease proves nothing meanwhile.
    leased = raft.config.read_only == "lease" and raft.transferee == NONE
    if leased or raft.tracker.agreed(alone) is VoteResult.WON:
        _reply(raft, message, raft.log.committed)
        return
    raft.pending_reads.setdefault(message.context, (raft.log.committed, message, alone))
    leading.send_heartbeats(raft, message.context)


def on_heartbeat_answer(raft: State, message: Message) -> None:
    """A majority that answers a later heartbeat proves that the leader still was one."""
    pending = raft.pending_reads.get(message.context) if message.context else None
    if pending is None:
        return
    pending[2][message.sender] = True
    if raft.tracker.agreed(pending[2]) is not VoteResult.WON:
        return
    for context in list(raft.pending_reads):  # earlier ones are proved with it
        index, request_, _ = raft.pending_reads.pop(context)
        _reply(raft, request_, index)
        if context == message.context:
            return


def release(raft: State) -> None:
    """An entry of this term is committed: begin the reads that waited for it."""
    if raft.waiting_reads and raft.committed_in_term():
        waiting, raft.waiting_reads = raft.waiting_reads, []
        for message in waiting:
            _begin(raft, message)


def _reply(raft: State, message: Message, index: int) -> None:
    if message.sender in (NONE, raft.id):
        raft.read_states.append(ReadState(index, message.context))
    else:
        answer = Message(Kind.READ_INDEX_RESP, message.sender, index=index, context=message.context)
        raft.send(answer)
