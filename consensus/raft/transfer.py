"""Transfer: hand leadership to a chosen server without waiting for a time-out.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Section 3.10.
"""

from __future__ import annotations

from consensus.raft import leading
from consensus.raft.messages import NONE, Kind, Message
from consensus.raft.state import State


def request(raft: State, target: int) -> None:
    """Begin: the target is brought up to date first; proposals are refused meanwhile."""
    if target == raft.transferee or target == raft.id or target not in raft.tracker.conf.voters:
        return
    raft.election_elapsed, raft.transferee = 0, target
    if not maybe_complete(raft, target):
        leading.send_append(raft, target)


def maybe_complete(raft: State, follower: int) -> bool:
    """Tell the target to campaign once its log equals one's own."""
    if follower != raft.transferee:
        return False
    if raft.tracker.progress[follower].match != raft.log.last:
        return False
    raft.send(Message(Kind.TIMEOUT_NOW, follower))
    return True


def abort(raft: State) -> None:
    """Give up: proposals are welcome again."""
    raft.transferee = NONE
