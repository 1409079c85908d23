"""Tracker: the configuration, everyone's progress, and the votes of the running election.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Section 4.3.
"""

from __future__ import annotations

from consensus.raft import quorum
from consensus.raft.messages import ConfState
from consensus.raft.progress import Progress
from consensus.raft.quorum import VoteResult


class Tracker:
    """Who counts, and what they hold. Progress is kept in order of server id."""

    def __init__(self, conf: ConfState, next_index: int, max_inflight: int, max_bytes: int):
        self.max_inflight, self.max_bytes = max_inflight, max_bytes
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}
        self.switch(conf, next_index)

    def switch(self, conf: ConfState, next_index: int) -> None:
        """Take a new configuration; known servers keep their progress."""
        self.conf = conf
        self.voters = tuple(sorted({*conf.voters, *conf.outgoing}))
        members = sorted({*self.voters, *conf.learners, *conf.learners_next})
        known = self.progress
        self.progress = {m: known[m] if m in known else self._fresh(next_index) for m in members}
        for member in members:
            if member not in known:  # or the next quorum check would count it as dead
                self.progress[member].recent_active = True

    def _fresh(self, next_index: int) -> Progress:
        return Progress(next_index, self.max_inflight, self.max_bytes)

    def reset(self, next_index: int) -> None:
        """Forget all progress and votes: a new term begins."""
        self.votes = {}
        self.progress = {member: self._fresh(next_index) for member in self.progress}

    def is_voter(self, member: int) -> bool:
        """In either half of the configuration?"""
        return member in self.voters

    def committed(self) -> int:
        """The largest index that is on the majority, or on both majorities."""
        match = {member: progress.match for member, progress in self.progress.items()}
        if not self.conf.outgoing:
            return quorum.committed(self.conf.voters, match)
        return quorum.joint_committed(self.conf.voters, self.conf.outgoing, match)

    def record_vote(self, voter: int, granted: bool) -> None:
        """The first answer of a voter counts."""
        self.votes.setdefault(voter, granted)

    def election(self) -> VoteResult:
        """Answers of learners and strangers are not counted."""
        return self.agreed(self.votes)

    def agreed(self, votes: dict[int, bool]) -> VoteResult:
        """Has a (joint) majority said yes?"""
        return quorum.joint_vote_result(self.conf.voters, self.conf.outgoing, votes)

    def quorum_active(self) -> bool:
        """Has a (joint) majority been heard from since the last check?"""
        heard = {member: progress.recent_active for member, progress in self.progress.items()}
        return self.agreed(heard) is VoteResult.WON
