"""Following: how a server takes in what its leader sends.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Sections 3.5 and 5.1.
"""

from __future__ import annotations

from consensus.raft.messages import Kind, Message
from consensus.raft.state import State


def on_append(raft: State, message: Message) -> None:
    """Store entries that follow on, or say from where on the logs may agree."""
    log = raft.log
    if message.index < log.committed:
        raft.send(Message(Kind.APP_RESP, message.sender, index=log.committed))
        return
    last = log.accept(message.index, message.log_term, message.entries)
    if last is not None:
        log.commit_to(min(message.commit, last))
        raft.send(Message(Kind.APP_RESP, message.sender, index=last))
        return
    hint, term = log.last_not_after(min(message.index, log.last), message.log_term)
    raft.send(
        Message(
            Kind.APP_RESP,
            message.sender,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=term,
        )
    )


def on_heartbeat(raft: State, message: Message) -> None:
    """The leader lives and knows more to be committed."""
    raft.log.commit_to(message.commit)
    raft.send(Message(Kind.HEARTBEAT_RESP, message.sender, context=message.context))


def on_snapshot(raft: State, message: Message) -> None:
    """Install a snapshot that is ahead; answer with what is held once it is durable."""
    log, snapshot = raft.log, message.snapshot
    if snapshot.index <= log.committed:
        index = log.committed
    elif log.has(snapshot.index, snapshot.term):
        log.commit_to(snapshot.index)  # nothing is missing: keep the log, entries after it too
        index = log.committed
    else:
        log.restore(snapshot)
        raft.tracker.switch(snapshot.conf, log.last + 1)
        raft.conf_index = snapshot.index
        index = log.last
    raft.send(Message(Kind.APP_RESP, message.sender, index=index))
