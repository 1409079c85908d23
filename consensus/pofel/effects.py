"""Effects: what a round machine asks its server to do; the machine itself does nothing.

Paper: none; our derivation (effects instead of callbacks keep the machine a pure function).
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.pofel.messages import Block
from consensus.pofel.task import Task


@dataclass(frozen=True)
class SetTimer:
    """Propose a timeout MARK for (round, phase, rank) when `after_ms` have passed."""

    round: int
    phase: int
    rank: int
    after_ms: int


@dataclass(frozen=True)
class SendReveal:
    """Commits are closed: whoever committed opens now, not earlier."""

    round: int


@dataclass(frozen=True)
class FetchModel:
    """Get this model and verify its chunks."""

    round: int
    author: bytes
    model_root: bytes
    length: int


@dataclass(frozen=True)
class SendAvail:
    """Say which of these models have been fetched and verified."""

    round: int
    roots: tuple[bytes, ...]


@dataclass(frozen=True)
class Evaluate:
    """Compute the task's Evaluated and hand it to `provide`."""

    task: Task


@dataclass(frozen=True)
class CastVote:
    """Vote for one of the candidates: a VOTE_COMMIT, or a VOTE where votes are not hidden."""

    round: int
    candidates: tuple[bytes, ...]


@dataclass(frozen=True)
class OpenVote:
    """Vote commits are closed: open the own one."""

    round: int


@dataclass(frozen=True)
class BuildBlock:
    """`author` proposes the block; None: whoever leads the ordering protocol."""

    round: int
    rank: int
    author: bytes | None


@dataclass(frozen=True)
class ImportBlock:
    """This block is accepted."""

    block: Block
    author: bytes
    rank: int


@dataclass(frozen=True)
class SignFinal:
    """Sign FINAL over this header."""

    height: int
    round: int
    rank: int
    header_hash: bytes


@dataclass(frozen=True)
class Strike:
    """A server broke a rule; the evidence is in the stream."""

    node: bytes
    kind: str


@dataclass(frozen=True)
class Removed:
    """A server is no member at parent heights first .. last."""

    node: bytes
    first: int
    last: int


@dataclass(frozen=True)
class Abort:
    """The round ends without a block; head and height stay."""

    round: int
    reason: str


@dataclass(frozen=True)
class Ignored:
    """The entry changed nothing."""

    reason: str


Effect = (SetTimer | SendReveal | FetchModel | SendAvail | Evaluate | CastVote | OpenVote
          | BuildBlock | ImportBlock | SignFinal | Strike | Removed | Abort | Ignored)  # fmt: skip
