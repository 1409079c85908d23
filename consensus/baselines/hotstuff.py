"""HotStuff: one leader collects votes into certificates, three times, then everybody decides.

Paper: Yin et al., "HotStuff: BFT Consensus with Linearity and Responsiveness", PODC 2019,
Algorithm 2 (basic HotStuff); the leader stays while it makes progress.
"""

from __future__ import annotations

from typing import NamedTuple

from consensus.baselines._replica import ALL, Batch, Replica, digest_of, size_of
from consensus.identity import Key, SignatureCheck, digest

PHASES = ("prepare", "precommit", "commit", "decide")
SIGNATURE = 65 + 8


class Certificate(NamedTuple):
    """A quorum's signatures on (phase, view, height, batch digest)."""

    phase: str
    view: int
    height: int
    name: bytes
    signatures: tuple[tuple[int, bytes], ...]


class HotStuff(Replica):
    """One replica. keys: of all servers; it signs with its own and knows the others' addresses.
    patience: ticks without a decision before the next leader's turn (> 0)."""

    def __init__(self, id: int, servers: int, keys: tuple[Key, ...], patience: int = 6):
        super().__init__(id, servers)
        self.view = self.height = 0
        self._key, self._nodes = keys[id], tuple(key.node_id for key in keys)
        self._check, self._patience, self._waited = SignatureCheck(), patience, 0
        self._batches: dict[bytes, Batch] = {b"": ()}
        self._votes: dict[tuple, dict[int, bytes]] = {}
        self._formed: set[tuple] = set()
        self._high: Certificate | None = None  # highest prepared
        self._lock: Certificate | None = None
        self._voted: set[tuple] = set()
        self._new: dict[int, dict[int, Certificate | None]] = {}
        self._failed = 0  # views in a row that decided nothing
        self._busy = False  # as a leader: a proposal is on its way

    @property
    def leader(self) -> int:
        return self.view % self.servers

    def wake(self) -> None:
        """The leader proposes what it has, one batch at a time."""
        ready = self.view == 0 or len(self._new.get(self.view, {})) >= self.quorum
        if self.leader != self.id or self._busy or not ready:
            return
        open_ = self._high is not None and self._high.height > self.height
        batch = self._batches[self._high.name] if open_ else tuple(self.pool.values())
        if batch:
            self._busy = True
            size = 48 + size_of(batch) + _size(self._high)
            height = self.height + 1
            self.send(ALL, "propose", self.view, height, batch, self._high, size=size)
            self.on_propose(self.id, self.view, height, batch, self._high)

    def tick(self) -> None:
        """Nothing was decided for a while: turn to the next leader, with growing patience."""
        self._waited = self._waited + 1 if self.pool or self._busy else 0
        if self._waited > self._patience * (1 + self._failed):
            self._waited, self._busy, self._failed = 0, False, self._failed + 1
            self.view += 1
            waiting = tuple(self.pool.values())  # the others should know what is waited for
            size = 16 + _size(self._high) + size_of(waiting)
            self.send(ALL, "newview", self.view, self._high, waiting, size=size)
            self.on_newview(self.id, self.view, self._high, ())

    def on_newview(self, sender: int, view: int, high: Certificate | None, waiting: Batch) -> None:
        """A server turns to this view's leader and shows the last thing it saw prepared."""
        self.remember(waiting)
        if high is not None and not self._valid(high):
            return
        self._new.setdefault(view, {})[sender] = high
        if high is not None and (self._high is None or high.view >= self._high.view):
            self._high = high if high.name in self._batches else self._high
        if view > self.view and len(self._new[view]) > (self.servers - 1) // 3:
            self.view, self._busy, self._waited = view, False, 0
        self.wake()

    def on_propose(
        self, sender: int, view: int, height: int, batch: Batch, high: Certificate | None
    ) -> None:
        """Vote unless something else is locked and nothing newer justifies the proposal."""
        if sender != view % self.servers or view < self.view or height != self.height + 1:
            return
        if high is not None and not self._valid(high):
            return
        name = digest_of(batch, height)
        self._batches[name] = batch
        lock = self._lock if self._lock is not None and self._lock.height == height else None
        safe = lock is None or lock.name == name or (high is not None and high.view > lock.view)
        if safe:
            self.view = view
            self._vote("prepare", view, height, name)

    def _vote(self, phase: str, view: int, height: int, name: bytes) -> None:
        what = (phase, view, height, name)
        if what in self._voted:
            return
        self._voted.add(what)
        signature = self._key.sign(_told(*what, self._key.node_id))
        leader = view % self.servers
        if leader == self.id:
            self.on_vote(self.id, what, signature)
        else:
            self.send(leader, "vote", what, signature, size=48 + SIGNATURE)

    def on_vote(self, sender: int, what: tuple, signature: bytes) -> None:
        """As a leader: a quorum of votes becomes a certificate, sent to all."""
        node = self._nodes[sender]
        if what in self._formed or self._check(_told(*what, node), signature, node) is not None:
            return
        votes = self._votes.setdefault(what, {})
        votes[sender] = signature
        if len(votes) < self.quorum:
            return
        self._formed.add(what)
        certificate = Certificate(*what, tuple(sorted(votes.items())))
        self.send(ALL, "certified", certificate, size=_size(certificate))
        self.on_certified(self.id, certificate)

    def on_certified(self, sender: int, certificate: Certificate) -> None:
        """prepare: vote again; precommit: lock and vote again; commit: decide."""
        phase, view, height, name, _ = certificate
        if sender != view % self.servers or not self._valid(certificate):
            return
        if height != self.height + 1 or name not in self._batches:
            return
        if phase == "prepare":
            self._high = certificate
        if phase == "precommit":
            self._lock = certificate
        if phase != "commit":
            return self._vote(PHASES[PHASES.index(phase) + 1], view, height, name)
        self.height, self._busy, self._waited, self._failed = height, False, 0, 0
        self.deliver(self._batches[name])
        self.wake()

    def _valid(self, certificate: Certificate) -> bool:
        phase, view, height, name, signatures = certificate
        signers = {i for i, _ in signatures}
        return len(signers) >= self.quorum and all(
            self._check(_told(phase, view, height, name, self._nodes[i]), s, self._nodes[i]) is None
            for i, s in signatures
        )


def _told(phase: str, view: int, height: int, name: bytes, node: bytes) -> bytes:
    return digest(f"fedalign/hotstuff/{phase}/v1", 0, height, view, node, name)


def _size(certificate: Certificate | None) -> int:
    return 56 + SIGNATURE * len(certificate.signatures) if certificate is not None else 1
