"""State: all that a stream of entries has decided so far, in integers and bytes.

Paper: none; our derivation (one canonical encoding, so that its hash shows any disagreement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum

from consensus.encoding import pack, unpack
from consensus.pofel import history
from consensus.pofel.beacon import GENESIS
from consensus.pofel.hcds import ABSENT
from consensus.pofel.settings import Settings, tolerated
from consensus.pofel.task import Task
from consensus.work import sha256
from fedalign.core.errors import DataError


class Phase(IntEnum):
    """What the stream waits for. Evaluation runs locally before the vote; the tally takes no
    time; FINAL is gathered outside the stream while the next round already collects commits."""

    COMMIT = 0
    REVEAL = 1
    AVAIL = 2
    VOTE_COMMIT = 3
    VOTE = 4
    BLOCK = 5


@dataclass(frozen=True)
class State:
    """Replicated state. Mappings go from node id; micro: micro-nats.

    round: this chain round, from 1. height: final blocks. head: the last one's hash. history:
    micro. wins, recent: leaders so far, the latest last. exiles: (first, last) parent height
    without the server. punished: round of its last fraud proof. pending: penalties (micro) not
    yet in the history. balances, treasury, minted: base units. evidence: hashes of the entries
    applied since the parent block. earlier: (author, model root) of aborted rounds.
    commits: (node, commitment, samples, time) in order. reveals: (root, nonce, length). ballots:
    vote commitments. votes: (choice, prediction). outcome: packed, once votes are counted.
    """

    head: bytes
    head_time_s: int
    scale: int
    round: int = 1
    height: int = 0
    beacon: bytes = GENESIS
    history: Mapping[bytes, int] = field(default_factory=dict)
    wins: Mapping[bytes, int] = field(default_factory=dict)
    recent: tuple[bytes, ...] = ()
    exiles: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)
    punished: Mapping[bytes, int] = field(default_factory=dict)
    pending: Mapping[bytes, int] = field(default_factory=dict)
    strikes: Mapping[bytes, Mapping[str, int]] = field(default_factory=dict)
    absences: Mapping[bytes, int] = field(default_factory=dict)
    balances: Mapping[bytes, int] = field(default_factory=dict)
    treasury: int = 0
    minted: int = 0
    aborts: int = 0
    evidence: tuple[bytes, ...] = ()
    earlier: tuple[tuple[bytes, bytes], ...] = ()
    phase: int = Phase.COMMIT
    rank: int = 0
    commits: tuple[tuple[bytes, bytes, int, int], ...] = ()
    reveals: Mapping[bytes, tuple[bytes, bytes, int]] = field(default_factory=dict)
    avails: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    roster: tuple[bytes, ...] = ()
    ballots: Mapping[bytes, bytes] = field(default_factory=dict)
    votes: Mapping[bytes, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    outcome: bytes = b""

    @staticmethod
    def genesis(settings: Settings) -> State:
        return State(settings.head, settings.head_time_s, settings.scale)

    def encode(self) -> bytes:
        return pack({f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def decode(data: bytes) -> State:
        """Raises DataError where the bytes are no state."""
        plain = unpack(data)
        if not isinstance(plain, dict) or set(plain) != {f.name for f in fields(State)}:
            raise DataError("These bytes are no snapshot of a round machine.")
        return State(**plain)

    def digest(self) -> bytes:
        return sha256(self.encode())

    # ------------------------------------------------------------ what follows from it

    def members(self, settings: Settings) -> tuple[bytes, ...]:
        """Who belongs to this round: the members at the parent block, in the chain's order."""
        return tuple(
            node
            for node in settings.members
            if node not in self.exiles
            or not self.exiles[node][0] <= self.height <= self.exiles[node][1]
        )

    def quorum(self, settings: Settings) -> int:
        """n - f of this round."""
        n = len(self.members(settings))
        return n - tolerated(n, settings.faults)

    def fewest(self, settings: Settings) -> int:
        """n - 2f: with fewer models the round is aborted."""
        n = len(self.members(settings))
        return n - 2 * tolerated(n, settings.faults)

    def sealers(self, settings: Settings) -> tuple[tuple[bytes, ...], int]:
        """Who may sign the head, and how many must: the members at its parent, and n - f."""
        parent = replace(self, height=self.height - 1)
        return parent.members(settings), parent.quorum(settings)

    def committed(self, node: bytes) -> tuple[bytes, bytes, int, int] | None:
        return next((commit for commit in self.commits if commit[0] == node), None)

    @property
    def committers(self) -> tuple[bytes, ...]:
        """Servers with a model in this round, in commit order."""
        return tuple(node for node, c, _, _ in self.commits if c != ABSENT)

    def weights(self, settings: Settings) -> dict[bytes, int]:
        """The members' weights in this round's tally, ppm."""
        members = self.members(settings)
        past = [self.history.get(node, 0) for node in members]
        return dict(zip(members, history.weights(past, settings.history), strict=True))

    def sizes(self, settings: Settings) -> dict[bytes, int]:
        """Samples that count, of the servers in the roster, in commit order."""
        told = {node: size for node, _, size, _ in self.commits if node in self.roster}
        if not settings.size_cap or not told:
            return told
        ordered = sorted(told.values())
        cap = settings.size_cap * ordered[(len(ordered) - 1) // 2]
        return {node: min(size, cap) for node, size in told.items()}

    def task(self, settings: Settings) -> Task:
        """What this round evaluates, once the roster is known."""
        servers = tuple(
            (node, self.reveals[node][0], size) for node, size in self.sizes(settings).items()
        )
        return Task(self.round, servers, self.earlier, self.scale, self.beacon)

    def block_time_s(self) -> int:
        """Lower median of the commits' clocks, at least one after the parent's."""
        clocks = sorted(time_s for _, _, _, time_s in self.commits)
        return max(self.head_time_s + 1, clocks[(len(clocks) - 1) // 2])

    # ------------------------------------------------------------ small steps

    def struck(self, node: bytes, kind: str) -> State:
        """One strike more; its penalty enters the history at the next tally."""
        mine = dict(self.strikes.get(node, {}))
        mine[kind] = mine.get(kind, 0) + 1
        due = self.pending.get(node, 0) + history.PENALTIES[kind]
        return replace(
            self, strikes={**self.strikes, node: mine}, pending={**self.pending, node: due}
        )

    def absent(self, node: bytes) -> State:
        return replace(self, absences={**self.absences, node: self.absences.get(node, 0) + 1})

    def next_round(self) -> State:
        """Nothing of the round is left; what outlives it has been set by the caller."""
        return replace(
            self, round=self.round + 1, phase=Phase.COMMIT, rank=0, commits=(), reveals={},
            avails={}, roster=(), ballots={}, votes={}, outcome=b"",
        )  # fmt: skip
