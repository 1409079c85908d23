"""Misreport: an elected leader writes a block that is not what the round decided.

Paper: none; our derivation (one wrong fact per block, everything else in order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from consensus.encoding import pack, unpack
from consensus.fault import Fault, FaultView
from consensus.identity import Key
from consensus.pofel.blocks import block_hash
from consensus.pofel.messages import Block, Entry, Kind
from fedalign.core.errors import ConfigError

About = Literal["aggregate", "tally", "scores", "rewards", "parent", "time", "evidence"]


@dataclass(frozen=True)
class Misreport(Fault):
    """about: what the block gets wrong; its hash and its signature are right."""

    about: About = "aggregate"

    def __post_init__(self) -> None:
        if self.about not in get_args(About):
            raise ConfigError(
                f"A leader misreports one of {', '.join(get_args(About))}; got '{self.about}'."
            )

    def __call__(self, outgoing: Sequence[Entry], view: FaultView, key: Key) -> Sequence[Entry]:
        return [
            view.say(key, self._lie(entry.content, view.node), entry.view)
            if entry.kind is Kind.BLOCK
            else entry
            for entry in outgoing
        ]

    def _lie(self, block: Block, me: bytes) -> Block:
        simple = {
            "parent": {"parent": b"\x01" * 32},
            "time": {"time_s": block.time_s + 3600},
            "evidence": {"evidence_root": bytes(32)},
        }
        wrong = replace(block, **simple.get(self.about, {}))
        if self.about not in simple:
            facts = dict(unpack(block.facts))
            facts[self.about] = _other(self.about, facts[self.about], me)
            wrong = replace(block, facts=pack(facts))
        return replace(wrong, header_hash=block_hash(wrong))


def _other(about: str, told: tuple, me: bytes) -> tuple:
    """The smallest change to each part."""
    if about == "aggregate":  # another global model
        return (bytes(32), *told[1:])
    if about == "tally":  # one vote is missing
        round_, ranking, totals, votes, wrong = told
        return (round_, ranking, totals, votes[1:], wrong)
    if about == "scores":
        return told[1:]
    pay, treasury = told  # one unit of another server's goes to the author
    richest = max(pay, key=lambda pair: (pair[0] != me, pair[1]))[0]
    moved = {node: units - (node == richest) + (node == me) for node, units in pay}
    return (tuple(sorted(moved.items())), treasury)
