"""Membership: one configuration change at a time, applied when its entry is.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.raft import leading, transfer
from consensus.raft.confchange import ConfChange, decode_conf, encode_conf, next_conf
from consensus.raft.messages import NONE, ConfState, Entry, EntryKind, Role
from consensus.raft.state import State
from fedalign.core.errors import ConfigError


def refusal(raft: State, items: Sequence[tuple[EntryKind, bytes]]) -> str:
    """Why a configuration change among `items` cannot be taken now; empty if it can."""
    changes = [data for kind, data in items if kind is EntryKind.CONFIG]
    if not changes:
        return ""
    if raft.pending_conf_index > raft.log.applied:
        return (
            f"a configuration change may be pending up to index {raft.pending_conf_index}, "
            f"applied is {raft.log.applied}"
        )
    if len(changes) > 1 or len(items) > 1:
        return "a configuration change is proposed by itself"
    try:
        _target(raft, changes[0])
    except ConfigError as error:
        return str(error)
    return ""


def append(raft: State, change: bytes) -> None:
    """Add the configuration that `change` leads to to one's own log."""
    leading.append(raft, [(EntryKind.CONFIG, encode_conf(_target(raft, change)))])
    raft.pending_conf_index = raft.log.last


def _target(raft: State, change: bytes) -> ConfState:
    return next_conf(raft.tracker.conf, ConfChange.decode(change))


def on_applied(raft: State, entry: Entry) -> None:
    """A configuration entry was applied: switch, on every server at the same index."""
    switch(raft, decode_conf(entry.data))


def switch(raft: State, conf: ConfState) -> None:
    """Take a configuration into force; quorums may have become smaller, so look at commits."""
    raft.tracker.switch(conf, raft.log.last + 1)
    if not raft.is_leader():
        if not raft.tracker.is_voter(raft.id) and raft.role is not Role.FOLLOWER:
            raft.become_follower(raft.term, NONE)  # a candidate that may no longer stand
        return
    if not raft.tracker.is_voter(raft.id) and raft.config.step_down_on_removal:
        raft.become_follower(raft.term, NONE)
        return
    if not leading.maybe_commit(raft):
        for follower in raft.tracker.progress:
            if follower != raft.id:
                leading.send_append(raft, follower, if_empty=False)
    if raft.transferee != NONE and raft.transferee not in conf.voters:
        transfer.abort(raft)


def maybe_leave(raft: State) -> None:
    """Propose to leave a joint configuration that has done its work."""
    if (
        raft.is_leader()
        and raft.tracker.conf.auto_leave
        and raft.log.applied >= raft.pending_conf_index
        and raft.transferee == NONE
    ):
        append(raft, ConfChange().encode())
        leading.broadcast(raft)
