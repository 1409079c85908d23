"""Invariants: what must hold after every event of a Raft cluster, over all of history.

The names are those of the TLA+ model of etcd-io/raft. Logs are compared by prefix numbers: equal
prefixes share one number, so "same index and term, same prefix" is one dictionary look-up.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Figure 3.2.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from consensus.raft.core import Raft
from consensus.raft.messages import ConfState, Entry, Kind, Message
from consensus.raft.quorum import majority
from fedalign.core.errors import IntegrityError


class InvariantError(IntegrityError):
    """An invariant is broken; the text begins with its name."""


class _Seen:
    """One server as it was after its last event; stays as it was while the server is down."""

    def __init__(self) -> None:
        self.core: Raft | None = None  # another object: the server has restarted
        self.entries: list[Entry] = []
        self.prefixes: list[int] = [0]  # number of the prefix that ends at offset, offset + 1 ...
        self.offset = self.term = self.commit = self.stable = 0
        self.conf = ConfState()
        self.leading = 0  # the term it leads, 0 if it does not

    def prefix(self, index: int) -> int | None:
        """The number of the prefix up to `index`; None if it is not there, -1 if compacted."""
        position = index - self.offset
        if position < 0:
            return -1
        return self.prefixes[position] if position < len(self.prefixes) else None


class Invariants:
    """Watches a cluster. Call `after` for the server an event touched; raises InvariantError."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._numbers: dict[tuple[int, Entry], int] = {}  # (prefix, next entry) -> prefix
        self._at: dict[tuple[int, int], int] = {}  # (index, term) -> prefix
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._applied: dict[int, bytes] = {}
        self.committed: list[int] = [0]  # prefix by index
        self._commit_terms: list[int] = [0]  # term in which it was first seen committed

    # ------------------------------------------------------------------ what is told

    def sent(self, message: Message) -> None:
        """A vote left (or was counted by its own caster): one per term, restarts included."""
        if message.kind is not Kind.VOTE_RESP or message.reject:
            return
        chosen = self._votes.setdefault((message.sender, message.term), message.to)
        if chosen != message.to:
            raise InvariantError(
                f"OneVoteInv: server {message.sender} voted for {chosen} and for {message.to} in "
                f"term {message.term}."
            )

    def applied(self, server: int, index: int, digest: bytes) -> None:
        """A state machine took in an entry: the same state everywhere at the same index."""
        if self._applied.setdefault(index, digest) != digest:
            raise InvariantError(
                f"StateMachineSafetyInv: server {server} has another state at index {index}."
            )

    # ------------------------------------------------------------------ what is checked

    def after(self, core: Raft) -> None:
        """Server `core.id` has just handled an event."""
        seen = self._seen.setdefault(core.id, _Seen())
        restarted, seen.core = seen.core is not core, core
        self._logs(core, seen, restarted)
        if not restarted and (core.term < seen.term or core.log.committed < seen.commit):
            raise InvariantError(
                f"MonotoneInv: server {core.id} went from term {seen.term}, commit {seen.commit} "
                f"back to {core.term}, {core.log.committed}."
            )
        if core.is_leader():
            if seen.leading != core.term:
                self._elected(core, seen)
            seen.leading = core.term
        else:
            seen.leading = 0
        if core.log.committed != seen.commit or restarted:
            self._commits(core, seen)
        seen.term, seen.commit, seen.conf = core.term, core.log.committed, core.conf

    def everything(self, cores: Iterable[Raft]) -> None:
        """Recompute all prefixes from scratch: nothing changed in the middle of a log unseen."""
        for core in cores:
            seen = self._seen[core.id]
            number = seen.prefixes[0]
            for position, entry in enumerate(core.log.entries):
                number = self._numbers.get((number, entry), -1)
                if number != seen.prefixes[position + 1]:
                    raise InvariantError(
                        f"LogInv: entry {entry.index} of server {core.id} changed in place."
                    )

    def _logs(self, core: Raft, seen: _Seen, restarted: bool) -> None:
        log, old = core.log, seen.entries
        same = len(old) == len(log.entries) and (not old or old[-1] is log.entries[-1])
        if log.offset != seen.offset:
            self._move(core, seen)
            old = seen.entries
        elif same:
            seen.stable = log.stable
            return
        common = min(len(old), len(log.entries))
        while common and old[common - 1] != log.entries[common - 1]:
            common -= 1
        if common < len(old):
            self._shortened(core, seen, log.offset + common, restarted)
        del seen.prefixes[common + 1 :]
        for entry in log.entries[common:]:
            key = (seen.prefixes[-1], entry)
            number = self._numbers.setdefault(key, len(self._numbers) + 1)
            if self._at.setdefault((entry.index, entry.term), number) != number:
                raise InvariantError(
                    f"LogMatchingInv: server {core.id} has another log up to index {entry.index}, "
                    f"term {entry.term}."
                )
            seen.prefixes.append(number)
        seen.entries, seen.stable = list(log.entries), log.stable

    def _move(self, core: Raft, seen: _Seen) -> None:
        """The log begins later (compaction, snapshot) or earlier (restart from the disk)."""
        offset = core.log.offset
        number = seen.prefix(offset)
        if number in (None, -1):
            if offset >= len(self.committed):
                raise InvariantError(
                    f"CommittedIsDurableInv: server {core.id} has a snapshot of index {offset}, "
                    f"but only {len(self.committed) - 1} entries were ever committed."
                )
            number = self.committed[offset]
        elif offset < len(self.committed) and number != self.committed[offset]:
            number = self.committed[offset]  # a snapshot replaced a log that differed
        cut = offset - seen.offset
        keeps = 0 <= cut < len(seen.prefixes) and seen.prefixes[cut] == number
        seen.entries = seen.entries[cut:] if keeps else []
        seen.prefixes = seen.prefixes[cut:] if keeps else [number]
        seen.offset = offset

    def _shortened(self, core: Raft, seen: _Seen, last: int, restarted: bool) -> None:
        if restarted and last < seen.stable:
            raise InvariantError(
                f"CommittedIsDurableInv: server {core.id} had {seen.stable} entries on disk and "
                f"came back with {last} of them."
            )
        if not restarted and seen.leading and seen.leading == core.term and core.is_leader():
            raise InvariantError(
                f"LeaderAppendOnlyInv: leader {core.id} of term {core.term} cut its log at {last}."
            )
        if last < seen.commit and not restarted:
            raise InvariantError(
                f"CommittedIsDurableInv: server {core.id} cut its log at {last}, committed was "
                f"{seen.commit}."
            )

    def _elected(self, core: Raft, seen: _Seen) -> None:
        if self._leaders.setdefault(core.term, core.id) != core.id:
            raise InvariantError(
                f"ElectionSafetyInv: servers {self._leaders[core.term]} and {core.id} both lead "
                f"term {core.term}."
            )
        before = bisect_left(self._commit_terms, core.term) - 1  # committed in earlier terms
        if seen.prefix(before) not in (self.committed[before], -1):
            raise InvariantError(
                f"LeaderCompletenessInv: leader {core.id} of term {core.term} lacks entry {before}."
            )

    def _commits(self, core: Raft, seen: _Seen) -> None:
        index = core.log.committed
        if index > core.log.last:
            raise InvariantError(
                f"LogInv: server {core.id} has commit {index} but its log ends at {core.log.last}."
            )
        if index >= len(self.committed):
            for new in range(len(self.committed), index + 1):
                self.committed.append(seen.prefix(new))
                self._commit_terms.append(core.term)
            # The event that committed may also have applied the next configuration.
            if not self._on_quorum(seen.conf, index):
                self._demand_quorum(core, index)
        elif seen.prefix(index) not in (self.committed[index], -1):
            raise InvariantError(
                f"CommittedLogInv: server {core.id} has another entry committed at {index}."
            )

    def _demand_quorum(self, core: Raft, index: int) -> None:
        """A newly committed entry is on the disks of a majority, of both in a joint change."""
        if not self._on_quorum(core.conf, index):
            holders = [server for server in sorted(self._seen) if self._holds(server, index)]
            raise InvariantError(
                f"QuorumLogInv: server {core.id} committed {index} with {core.conf}, but only "
                f"{holders} have it on disk."
            )

    def _on_quorum(self, conf: ConfState, index: int) -> bool:
        halves = [half for half in (conf.voters, conf.outgoing) if half]
        return bool(halves) and all(
            sum(self._holds(voter, index) for voter in half) >= majority(len(half))
            for half in halves
        )

    def _holds(self, voter: int, index: int) -> bool:
        seen = self._seen.get(voter)
        if seen is None or seen.stable < index:
            return False
        return seen.prefix(index) in (self.committed[index], -1)
