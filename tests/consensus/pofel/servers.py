"""Servers around one ordered stream: what honest ones send, and how a test makes one misbehave."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from consensus.identity import Key, SignatureCheck
from consensus.pofel import effects as fx
from consensus.pofel import evaluation, hcds, payload
from consensus.pofel.machine import RoundMachine
from consensus.pofel.messages import (
    Avail,
    Block,
    Commit,
    Entry,
    Mark,
    Reveal,
    Vote,
    VoteCommit,
)
from consensus.pofel.plain import PlainMachine
from consensus.pofel.prediction import predict
from consensus.pofel.settings import Settings
from consensus.pofel.state import Phase
from consensus.pofel.task import Evaluated, Evaluator
from tests.consensus.pofel.known_keys import key

CHAIN = 131_277
CHECK = SignatureCheck(capacity=200_000)  # shared: no test pays twice for a signature


@cache
def keys(n: int) -> tuple[Key, ...]:
    return tuple(key(i) for i in range(n))


def nodes(n: int) -> tuple[bytes, ...]:
    return tuple(k.node_id for k in keys(n))


def settings(n: int, **more) -> Settings:
    return Settings(CHAIN, nodes(n), **more)


def nonce(*where: object) -> bytes:
    return hashlib.sha256(repr(where).encode()).digest()


@dataclass
class Servers:
    """n servers; `lazy` maps a server to the kinds of message it does not send this round.

    models: server -> (d,) int64, else drawn near a common direction. replicas: machines that
    apply the same stream; every entry is checked to leave them with equal hashes (S2).
    """

    settings: Settings
    machine: RoundMachine = field(init=False)
    stream: list[Entry] = field(default_factory=list)
    effects: list[fx.Effect] = field(default_factory=list)
    lazy: dict[int, set[str]] = field(default_factory=dict)
    models: dict[int, np.ndarray] = field(default_factory=dict)
    choices: dict[int, int] = field(default_factory=dict)
    store: dict[bytes, np.ndarray] = field(default_factory=dict)
    plain: bool = False
    evaluator: Evaluator = Evaluator()

    def __post_init__(self) -> None:
        kind = PlainMachine if self.plain else RoundMachine
        self.machine = kind(self.settings, check=CHECK)
        self.keys = keys(len(self.settings.members))

    # ------------------------------------------------------------ plumbing

    @property
    def state(self):
        return self.machine.state

    def send(self, i: int, body, view: int = 0, round_: int | None = None) -> list[fx.Effect]:
        round_ = self.state.round if round_ is None else round_
        return self.order(Entry.sign(self.keys[i], CHAIN, round_, body, view))

    def order(self, entry: Entry) -> list[fx.Effect]:
        if self.machine.stalls(entry):
            self.machine.provide(self.evaluated())
        found = self.machine.apply(entry)
        self.stream.append(entry)
        self.effects += found
        return found

    def mark(self, timeout: int = 1, by: int = 0) -> list[fx.Effect]:
        state = self.state
        return self.send(by, Mark(int(state.phase), state.rank, timeout), view=state.rank)

    def does(self, i: int, what: str) -> bool:
        return what not in self.lazy.get(i, set()) and self.node(i) in self.members

    def node(self, i: int) -> bytes:
        return self.settings.members[i]

    @property
    def members(self) -> tuple[bytes, ...]:
        return self.state.members(self.settings)

    def model(self, i: int) -> np.ndarray:
        if i in self.models:
            return self.models[i]
        rng = np.random.default_rng([self.state.round, i])
        return (np.arange(1, 9) * 1000 + rng.integers(-300, 300, 8)).astype(np.int64)

    def evaluated(self) -> Evaluated:
        return self.evaluator(self.state.task(self.settings), self.store)

    # ------------------------------------------------------------ phases

    def commit(self, i: int, size: int = 100) -> list[fx.Effect]:
        state, body = self.state, self.model(i)
        if "model" in self.lazy.get(i, set()):
            return self.send(i, Commit(hcds.ABSENT, 0, state.head, 1000 + state.round))
        root = payload.root(body, state.scale)
        self.store[root] = body
        told = root if self.plain else hcds.commit(CHAIN, state.round, self.node(i), root,
                                                   nonce("model", state.round, i))  # fmt: skip
        return self.send(i, Commit(told, size, state.head, 1000 + state.round))

    def reveal(self, i: int) -> list[fx.Effect]:
        root = payload.root(self.model(i), self.state.scale)
        length = len(payload.to_bytes(self.model(i), self.state.scale))
        opened = nonce("model", self.state.round, i)
        return self.send(i, Reveal(root, opened, 1, length, b"<i4", bytes(32)))

    def avail(self, i: int, without: tuple[bytes, ...] = ()) -> list[fx.Effect]:
        roots = sorted({root for root, _, _ in self.state.reveals.values()} - set(without))
        return self.send(i, Avail(tuple(roots)))

    def ballot(self, i: int) -> Vote:
        answer = self.evaluated()
        best = min(answer.best)
        choice = self.members.index(best)
        if i in self.choices:
            choice = self.members.index(self.node(self.choices[i]))
        shares = predict(self.members, dict(answer.likeness_ppb), self.members[choice])
        return Vote(choice, shares, nonce("vote", self.state.round, i))

    def vote_commit(self, i: int) -> list[fx.Effect]:
        vote = self.ballot(i)
        place = (CHAIN, self.state.round, self.node(i))
        told = hcds.commit_vote(*place, vote.choice, vote.prediction_ppm, vote.nonce)
        return self.send(i, VoteCommit(told))

    def vote(self, i: int) -> list[fx.Effect]:
        return self.send(i, self.ballot(i))

    def block(self, i: int, **lies) -> list[fx.Effect]:
        if self.machine.stalls(self._signed(i, Block(0, bytes(32), 0, bytes(32), b"", bytes(32)))):
            self.machine.provide(self.evaluated())
        honest = self.machine.proposal(self.node(i))
        return self.order(self._signed(i, replace(honest, **lies)))

    def _signed(self, i: int, block: Block) -> Entry:
        return Entry.sign(self.keys[i], CHAIN, self.state.round, block, self.state.rank)

    def author(self) -> int:
        wanted = self.machine.opening()[0]
        return self.settings.members.index(wanted.author)

    # ------------------------------------------------------------ whole rounds

    def until(self, phase: Phase | None) -> Servers:
        """Play honestly (but for the lazy) until `phase` begins; None: until the round ends."""
        round_ = self.state.round
        while self.state.round == round_ and self.state.phase != phase:
            self.step()
        return self

    def step(self) -> None:
        """One phase: everybody's messages, then its mark."""
        now = Phase(self.state.phase)
        if now == Phase.BLOCK:
            author = 0 if self.plain else self.author()
            if self.does(author, "block"):
                self.block(author)
            else:
                self.mark()
            return
        act = {Phase.COMMIT: self.commit, Phase.REVEAL: self.reveal, Phase.AVAIL: self.avail,
               Phase.VOTE_COMMIT: self.vote_commit, Phase.VOTE: self.vote}[now]  # fmt: skip
        for i in range(len(self.settings.members)):
            if self.does(i, now.name.lower()) and self._may(i, now):
                act(i)
        self.mark(timeout=0 if self.machine.complete else 1)

    def _may(self, i: int, now: Phase) -> bool:
        if now == Phase.REVEAL:
            return self.node(i) in self.state.committers
        if now == Phase.VOTE and self.settings.commit_votes:
            return self.node(i) in self.state.ballots
        return True

    def strikes(self) -> list[tuple[int, str]]:
        return [
            (self.settings.members.index(e.node), e.kind)
            for e in self.effects
            if isinstance(e, fx.Strike)
        ]

    def aborts(self) -> int:
        return sum(isinstance(e, fx.Abort) for e in self.effects)


def reasons(found: list[fx.Effect]) -> list[str]:
    return [e.reason for e in found if isinstance(e, fx.Ignored)]


def near(i: int) -> np.ndarray:
    """A model of its own for server i."""
    return (np.arange(1, 9) * 1000 + 37 * i * (np.arange(8) % 3 - 1)).astype(np.int64)


__all__ = ["Servers", "evaluation", "near", "reasons", "settings"]
