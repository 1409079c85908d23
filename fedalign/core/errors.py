"""Every error fedalign raises on purpose, in one tree.

FedalignError
├── ConfigError               what was asked cannot be run; raised before any training
│   ├── UnknownNameError      no such attack, defense, key ...
│   └── ToleranceError        a rule cannot stand that many Byzantine clients
├── DataError                 a data file is missing, damaged or of another shape
├── ClientError               a client failed: names client, round and phase
├── IntegrityError            a log, digest or recomputed aggregate does not match
├── QuorumLostError          servers could not agree: too few are there, or no time was left
├── FolderBusyError           another process writes the same folder
└── ShadowedPackageError      one of our top-level packages comes from somewhere else
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FedalignError(Exception):
    """Root of the tree; its text is a sentence a user can act on."""


class ConfigError(FedalignError):
    """What was asked cannot be run: says what was asked, what was received, what would work."""


class UnknownNameError(ConfigError):
    """Lists what exists and the nearest spelling."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = sorted(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        super().__init__(f"There is no {kind} '{name}'.{hint} What exists: {', '.join(known)}.")
        self.kind, self.name, self.known = kind, name, known


class ToleranceError(ConfigError):
    """A rule's condition on clients n and Byzantine clients f does not hold."""

    def __init__(
        self, *, defense: str, clients: int, byzantine: int, needs: int, allows: int | None = None
    ):
        """needs: the fewest clients that f asks for; allows: the largest f that n clients stand."""
        cure = (
            f"lower byzantine_count to {allows} or " if allows is not None and allows >= 0 else ""
        )
        super().__init__(
            f"{defense} with f={byzantine} needs at least {needs} clients, got {clients}: "
            f"{cure}raise clients."
        )
        self.defense, self.clients, self.byzantine, self.needs = defense, clients, byzantine, needs


class DataError(FedalignError):
    """A data file is missing, damaged or of another shape: names path, expectation and cure."""


class ClientError(FedalignError):
    """A client failed. The original error is the `__cause__`."""

    def __init__(self, *, client: int, round: int, phase: str, reason: str):
        super().__init__(
            f"Client {client} failed in round {round} while it was to {phase}: {reason}"
        )
        self.client, self.round, self.phase, self.reason = client, round, phase, reason

    def __reduce__(self):
        return _client_error, (self.client, self.round, self.phase, self.reason)


def _client_error(client: int, round: int, phase: str, reason: str) -> ClientError:
    return ClientError(client=client, round=round, phase=phase, reason=reason)


class IntegrityError(FedalignError):
    """A log, a digest or a recomputed aggregate does not match what was recorded."""


class QuorumLostError(FedalignError):
    """Servers could not agree on a round: too few of them are there, or no time was left."""


class FolderBusyError(FedalignError):
    """Another process writes the same folder."""


class ShadowedPackageError(FedalignError):
    """A top-level package of ours is hidden by a stranger of the same name."""
