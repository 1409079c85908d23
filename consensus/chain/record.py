"""Record: what a round puts on the chain, and the short proofs that read it back.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (models, votes and rewards in blocks); one
call with roots instead of lists is our derivation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consensus.chain.abi import Interface
from consensus.chain.compiler import compiled
from consensus.encoding import encode
from consensus.pofel import merkle
from consensus.pofel.hcds import ABSENT
from consensus.pofel.merkle import Tree
from consensus.pofel.outcome import Outcome
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from fedalign.core.errors import ConfigError

EMPTY = bytes(32)


@dataclass(frozen=True)
class Commits:
    """A round's commitments. entries: (node, commitment, samples), in their order."""

    entries: Sequence[tuple[bytes, bytes, int]] = ()

    @property
    def tree(self) -> Tree:
        return Tree([leaf(node, told, size) for node, told, size in self.entries])

    @property
    def samples(self) -> int:
        return sum(size for _, _, size in self.entries)


@dataclass(frozen=True)
class Ballots:
    """A round's counted votes. entries: (node, choice, prediction hash, score in micro-nats, weight
    in ppm), in their order; the hash is the SHA-256 of the encoded prediction."""

    entries: Sequence[tuple[bytes, int, bytes, int, int]] = ()

    @property
    def tree(self) -> Tree:
        return Tree([leaf(*entry) for entry in self.entries])

    @staticmethod
    def of(state: State, settings: Settings, outcome: Outcome) -> Ballots:
        """The votes that an outcome counted; choices are positions among the chain's servers."""
        scores = {voter: total for voter, _, _, total in outcome.scores}
        weights = state.weights(settings)
        return Ballots(
            [
                (
                    voter,
                    settings.members.index(choice),
                    prediction_hash(state.votes[voter][1]),
                    scores[voter],
                    weights[voter],
                )
                for voter, choice in outcome.votes
            ]
        )


@dataclass(frozen=True)
class RoundRecord:
    """A round as the contracts keep it. leader: node id. update_root, chunks, n_bytes: of the
    aggregate update. start_digest: of the model the round began with. layout_hash: of names and
    shapes. pay: server -> wei, at once. claims: (round, root, accounts, total) that clients claim."""

    round: int
    leader: bytes
    update_root: bytes
    start_digest: bytes = EMPTY
    layout_hash: bytes = EMPTY
    chunks: int = 1
    n_bytes: int = 0
    commits: Commits = Commits()
    ballots: Ballots = Ballots()
    pay: Mapping[bytes, int] = field(default_factory=dict)
    claims: tuple[int, bytes, int, int] = (0, EMPTY, 0, 0)

    @staticmethod
    def of(
        state: State, settings: Settings, outcome: Outcome, author: bytes, **rest: Any
    ) -> RoundRecord:
        """What the machine knows of a round that is about to be sealed, numbered by its height.

        rest: start_digest, layout_hash, chunks, n_bytes and claims, which it does not know.
        """
        commits = [(node, told, size) for node, told, size, _ in state.commits if told != ABSENT]
        return RoundRecord(
            round=state.height + 1,
            leader=author,
            update_root=outcome.global_root,
            commits=Commits(commits),
            ballots=Ballots.of(state, settings, outcome),
            pay=outcome.rewards(author, settings)[0],
            **rest,
        )

    def facts(self) -> tuple:
        """The values of the contract's struct, in its order."""
        servers = sorted(self.pay)
        commits, ballots = self.commits, self.ballots
        return (
            self.leader,
            self.update_root,
            self.start_digest,
            self.layout_hash,
            self.chunks,
            self.n_bytes,
            commits.tree.root if commits.entries else EMPTY,
            len(commits.entries),
            commits.samples,
            ballots.tree.root if ballots.entries else EMPTY,
            len(ballots.entries),
            servers,
            [self.pay[server] for server in servers],
            *self.claims,
        )

    def facts_hash(self) -> bytes:
        """What `Rounds.settled` keeps and, off a sealed chain, a quorum signs."""
        from eth_abi import encode as abi_encode
        from eth_utils import keccak

        kind, _ = _rounds().struct("settle", "facts")
        return keccak(abi_encode([kind], [self.facts()]))

    def call(self, signatures: Sequence[bytes] = ()) -> bytes:
        """The data of `Rounds.settle`. signatures: of a quorum, where no seal speaks for it."""
        if len(self.update_root) != 32 or self.chunks < 1:
            raise ConfigError("A round's update has a root of 32 bytes and at least one chunk.")
        return _rounds().call("settle", self.round, self.facts(), list(signatures))


def leaf(*values: Any) -> bytes:
    """SHA256(0x00 ‖ the values as 32-byte words): addresses, bytes32 and integers."""
    return merkle.leaf(b"".join(map(_word, values)))


def prediction_hash(shares_ppm: Sequence[int]) -> bytes:
    """SHA-256 of a prediction's canonical encoding."""
    return hashlib.sha256(encode(list(shares_ppm))).digest()


def _word(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value.rjust(32, b"\0")
    return value.to_bytes(32, "big", signed=value < 0)


def _rounds() -> Interface:
    return Interface(compiled("Rounds").abi)
