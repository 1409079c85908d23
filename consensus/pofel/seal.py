"""Seal: enough servers say that they checked the same block.

Paper: none; the classical quorum certificate (Castro, Liskov, "Practical Byzantine Fault
Tolerance", OSDI 1999), over FINAL messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.encoding import decode, encode
from consensus.identity import SignatureCheck
from consensus.pofel.messages import Entry, Final, Kind
from fedalign.core.errors import DataError, IntegrityError


def quorum(servers: int) -> int:
    """floor(2n/3) + 1: two such sets share an honest server, for every n (2f + 1 does not)."""
    return 2 * servers // 3 + 1


@dataclass(frozen=True)
class Seal:
    """finals: FINAL entries over one header of one rank and round."""

    finals: tuple[Entry, ...]

    def encode(self) -> bytes:
        return encode([final.encode() for final in self.finals])

    @staticmethod
    def decode(data: bytes) -> Seal:
        """Raises DataError."""
        items = decode(data)
        if not isinstance(items, tuple) or not all(isinstance(item, bytes) for item in items):
            raise DataError("A seal is a list of FINAL messages.")
        return Seal(tuple(map(Entry.decode, items)))


def verify(
    seal: Seal,
    *,
    chain_id: int,
    round_: int,
    rank: int,
    header_hash: bytes,
    members: Sequence[bytes],
    check: SignatureCheck,
    needs: int | None = None,
) -> None:
    """Raise IntegrityError unless enough distinct members signed FINAL over exactly this block.

    members: at the parent block. needs: default `quorum`; a majority where servers only crash.
    """
    needs = quorum(len(members)) if needs is None else needs
    signers, told = set(), Final(rank, header_hash).encode()
    for final in seal.finals:
        place = (final.kind, final.chain_id, final.round, final.view)
        if place != (Kind.FINAL, chain_id, round_, 0) or final.sender not in members:
            raise IntegrityError(f"The seal of round {round_} holds a message of another place.")
        if final.body != told:
            raise IntegrityError(f"The seal of round {round_} holds a FINAL over another block.")
        if reason := check(final.digest, final.signature, final.sender):
            raise IntegrityError(f"The seal of round {round_} holds a bad signature: {reason}.")
        signers.add(final.sender)
    if len(signers) < needs:
        raise IntegrityError(
            f"The seal of round {round_} holds {len(signers)} servers' signatures, {needs} of "
            f"{len(members)} are needed."
        )
