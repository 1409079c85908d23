"""Journal records: what a BFT server must not forget, or it might sign twice.

    own vote | own proposal | lock (batch and round of its quorum of prevotes) | decision

Paper: Buchman, Kwon and Milosevic, arXiv 1807.04938, Algorithm 1 (its variables); the bytes are
our derivation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from consensus.bft.messages import NO_ROUND, Batch, Decision, Proposal, Step, Vote
from consensus.encoding import pack, unpack


class Lock(NamedTuple):
    """A batch that a quorum prevoted in `round`; locked: this server precommitted it then."""

    height: int
    round: int
    batch: Batch
    locked: bool


@dataclass
class Remembered:
    """What a journal says. signed: by (height, round, step)."""

    signed: dict[tuple[int, int, Step], Vote | Proposal] = field(default_factory=dict)
    locks: list[Lock] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    @property
    def height(self) -> int:
        """The height to be decided next."""
        return self.decisions[-1].height + 1 if self.decisions else 1


def to_bytes(what: Vote | Proposal | Lock | Decision) -> bytes:
    """One record."""
    if isinstance(what, Decision):
        plain = what._replace(certificate=tuple(map(plain_vote, what.certificate)))
        return pack(("d", *plain))
    if isinstance(what, Vote):
        return pack(("v", *plain_vote(what)))
    return pack(("p" if isinstance(what, Proposal) else "l", *what))


def plain_vote(vote: Vote) -> tuple:
    """A vote as plain data."""
    return (int(vote.step), *vote[1:])


def to_vote(plain: tuple) -> Vote:
    """Inverse of `plain_vote`."""
    return Vote(Step(plain[0]), *plain[1:])


def read(records: Iterable[bytes]) -> Remembered:
    """What the records of a journal say together, oldest first."""
    found = Remembered()
    for record in records:
        kind, *values = unpack(record)
        if kind == "v":
            vote = to_vote(tuple(values))
            found.signed[vote.height, vote.round, vote.step] = vote
        elif kind == "p":
            proposal = Proposal(*values)
            found.signed[proposal.height, proposal.round, Step.PROPOSE] = proposal
        elif kind == "l":
            found.locks.append(Lock(*values))
        else:
            *head, certificate = values
            found.decisions.append(Decision(*head, tuple(map(to_vote, certificate))))
            _forget_before(found, found.height)
    return found


def _forget_before(found: Remembered, height: int) -> None:
    found.signed = {key: what for key, what in found.signed.items() if key[0] >= height}
    found.locks = [lock for lock in found.locks if lock.height >= height]


def lock_of(found: Remembered) -> tuple[Lock, Lock]:
    """(locked, valid) at the height to be decided: round -1 where there is none."""
    none = Lock(found.height, NO_ROUND, (), False)
    mine = [lock for lock in found.locks if lock.height == found.height]
    locked = max((lock for lock in mine if lock.locked), key=lambda lock: lock.round, default=none)
    return locked, max(mine, key=lambda lock: lock.round, default=none)
