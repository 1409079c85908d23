"""ConfChange: how one configuration becomes the next, directly or through two joint majorities.

Paper: Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014, Section 4.3.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from consensus.raft.messages import ConfState
from fedalign.core.errors import ConfigError


class Op(IntEnum):
    """What happens to one server."""

    ADD_VOTER = 0
    ADD_LEARNER = 1
    REMOVE = 2


class Transition(IntEnum):
    """AUTO is direct when one voter changes, else joint and left automatically.

    IMPLICIT is always joint and left automatically, EXPLICIT joint until an empty change.
    """

    AUTO = 0
    IMPLICIT = 1
    EXPLICIT = 2


class ConfChange(NamedTuple):
    """A proposal to change the configuration; without changes it leaves a joint one."""

    changes: tuple[tuple[Op, int], ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""

    def encode(self) -> bytes:
        """Canonical bytes, in which a proposal travels to the leader."""
        body = b"".join(struct.pack("<Bq", op, server) for op, server in self.changes)
        return struct.pack("<BI", self.transition, len(self.changes)) + body + self.context

    @classmethod
    def decode(cls, data: bytes) -> ConfChange:
        """Inverse of `encode`."""
        try:
            transition, count = struct.unpack_from("<BI", data)
            changes = tuple(
                (Op(op), server)
                for op, server in (struct.unpack_from("<Bq", data, 5 + 9 * i) for i in range(count))
            )
            return cls(changes, Transition(transition), data[5 + 9 * count :])
        except (struct.error, ValueError) as error:
            raise ConfigError(f"{len(data)} bytes do not hold a configuration change.") from error


def encode_conf(conf: ConfState) -> bytes:
    """Canonical bytes of a configuration, which is what a CONFIG entry holds.

    Whole configurations, not changes: a newcomer can take them in without knowing what was before.
    """
    groups = b"".join(struct.pack(f"<I{len(g)}q", len(g), *g) for g in conf[:4])
    return struct.pack("<B", conf.auto_leave) + groups


def decode_conf(data: bytes) -> ConfState:
    """Inverse of `encode_conf`."""
    position, groups = 1, []
    for _ in range(4):
        (count,) = struct.unpack_from("<I", data, position)
        groups.append(struct.unpack_from(f"<{count}q", data, position + 4))
        position += 4 + 8 * count
    return ConfState(*groups, bool(data[0]))


def next_conf(conf: ConfState, change: ConfChange) -> ConfState:
    """The configuration after `change`; ConfigError if it cannot follow `conf`."""
    if not change.changes:
        return leave_joint(conf)
    if conf.outgoing:
        raise ConfigError(
            f"Voters {conf.outgoing} -> {conf.voters} are still in transition; "
            "leave the joint configuration first."
        )
    voters, learners, later = _edited(conf, change.changes)
    swapped = len(set(voters) ^ set(conf.voters))
    if change.transition is Transition.AUTO and swapped <= 1:
        return ConfState(voters, (), tuple(sorted({*learners, *later})))
    return ConfState(
        voters, conf.voters, learners, later, change.transition is not Transition.EXPLICIT
    )


def leave_joint(conf: ConfState) -> ConfState:
    """Drop the old majority; its demoted voters become learners."""
    if not conf.outgoing:
        raise ConfigError(f"Voters {conf.voters} are not in transition: there is nothing to leave.")
    return ConfState(conf.voters, (), tuple(sorted({*conf.learners, *conf.learners_next})))


def _edited(conf: ConfState, changes: tuple[tuple[Op, int], ...]) -> tuple[tuple[int, ...], ...]:
    """Voters, learners, and learners to be once they stop voting in the old half."""
    voters, learners, later = set(conf.voters), set(conf.learners), set()
    for op, server in changes:
        if server < 0:
            raise ConfigError(f"Server ids are integers >= 0, got {server}.")
        for group in (voters, learners, later):
            group.discard(server)
        if op is Op.ADD_VOTER:
            voters.add(server)
        elif op is Op.ADD_LEARNER:
            (later if server in conf.voters else learners).add(server)
    if not voters:
        raise ConfigError(f"Removing all of {conf.voters} leaves no voter: keep or add one.")
    return tuple(sorted(voters)), tuple(sorted(learners)), tuple(sorted(later))
