"""RaftConfig: the knobs of one server, with their units and ranges.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Chapter 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedalign.core.errors import ConfigError


@dataclass(frozen=True)
class RaftConfig:
    """How a server elects, replicates and limits itself.

    election_tick: ticks without a leader before campaigning (> heartbeat_tick); the time-out is
        drawn from [election_tick, 2 election_tick) for every term.
    heartbeat_tick: ticks between a leader's heartbeats (>= 1).
    pre_vote: ask before raising the term, so that a returning server disturbs nobody.
    check_quorum: leaders that hear no majority step down, followers keep a lease on their leader.
    max_message_bytes: payload of one append (>= 1); a single larger entry still travels.
    max_inflight_messages: appends sent ahead per follower (>= 1).
    max_inflight_bytes: payload sent ahead per follower; 0 means no limit.
    max_uncommitted_bytes: payload a leader takes on before it refuses proposals (>= 1).
    max_committed_bytes_per_ready: payload handed out for application at once (>= 1).
    read_only: "safe" asks a majority for every read; "lease" trusts clocks (needs check_quorum).
    proposal_forwarding: followers send proposals on to the leader.
    step_down_on_removal: a leader that is no longer a voter steps down.
    commit_broadcast: tell followers of a new commit index at once, not with the next message.
    async_storage: several Readys may be on their way to the disk at a time.
    keep_tail: entries before a snapshot that stay in memory for slow followers (>= 0).
    snapshot_retry_tick: ticks after which an unanswered snapshot is sent again (>= 1).
    """

    election_tick: int = 10
    heartbeat_tick: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    max_message_bytes: int = 1 << 20
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 16 << 20
    max_uncommitted_bytes: int = 64 << 20
    max_committed_bytes_per_ready: int = 4 << 20
    read_only: Literal["safe", "lease"] = "safe"
    proposal_forwarding: bool = True
    step_down_on_removal: bool = True
    commit_broadcast: bool = True
    async_storage: bool = True
    keep_tail: int = 1000
    snapshot_retry_tick: int = 100

    def __post_init__(self):
        if not 1 <= self.heartbeat_tick < self.election_tick:
            raise ConfigError(
                f"election_tick must exceed heartbeat_tick >= 1, got election_tick="
                f"{self.election_tick}, heartbeat_tick={self.heartbeat_tick}: 10 and 1 work."
            )
        if self.read_only not in ("safe", "lease"):
            raise ConfigError(f"read_only is 'safe' or 'lease', got {self.read_only!r}.")
        if self.read_only == "lease" and not self.check_quorum:
            raise ConfigError(
                "read_only='lease' needs check_quorum=true: without it a deposed leader never "
                "learns that its lease ended. Set check_quorum=true or read_only='safe'."
            )
        lowest = {
            "max_message_bytes": 1, "max_inflight_messages": 1, "max_inflight_bytes": 0,
            "max_uncommitted_bytes": 1, "max_committed_bytes_per_ready": 1, "keep_tail": 0,
            "snapshot_retry_tick": 1,
        }  # fmt: skip
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}.")
