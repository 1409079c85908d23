"""Blocks: what a block must say to be accepted, and what accepting it changes.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (the elected leader writes the block); the
eight checks are our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from consensus.encoding import encode, pack, unpack
from consensus.pofel import merkle
from consensus.pofel.messages import Block
from consensus.pofel.outcome import Outcome
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from consensus.work import sha256
from fedalign.core.errors import DataError

CheckPayload = Callable[[Block, Outcome, bytes], str | None]
"""(block, outcome, author) -> why the EVM part is refused, or None: header hash, state root, size."""


def block_hash(block: Block) -> bytes:
    """The hash of a block without an EVM part."""
    parts = [block.height, block.parent, block.time_s, block.evidence_root, block.facts]
    return sha256(b"fedalign/pofel/block/v1" + encode(parts))


def bare(block: Block, outcome: Outcome, author: bytes) -> str | None:
    """The CheckPayload of a chain without an EVM: no payload, the block's own hash."""
    return None if not block.payload and block.header_hash == block_hash(block) else "wrong_header"


def propose(state: State, settings: Settings, outcome: Outcome, author: bytes) -> Block:
    """The only valid content of the next block, if `author` writes it; without an EVM part."""
    block = Block(
        height=state.height + 1,
        parent=state.head,
        time_s=state.block_time_s(),
        evidence_root=merkle.root(state.evidence),
        facts=pack(outcome.facts(author, settings)),
        header_hash=bytes(32),
    )
    return replace(block, header_hash=block_hash(block))


def refusal(
    state: State,
    settings: Settings,
    outcome: Outcome,
    author: bytes,
    block: Block,
    check_payload: CheckPayload,
) -> str | None:
    """Why this block is invalid, or None. Every honest server reaches the same answer."""
    expected = propose(state, settings, outcome, author)
    if (block.height, block.parent) != (expected.height, expected.parent):
        return "wrong_parent"
    if block.time_s != expected.time_s:
        return "wrong_time"
    if block.evidence_root != expected.evidence_root:
        return "wrong_evidence"
    if block.facts != expected.facts:
        return f"wrong_{_first_lie(block.facts, expected.facts)}"
    return check_payload(block, outcome, author)


def accepted(
    state: State, settings: Settings, outcome: Outcome, author: bytes, block: Block
) -> State:
    """The state after this block: its outcome is history, the next round collects commits."""
    pay, treasury = outcome.rewards(author, settings)
    balances = dict(state.balances)
    for node, amount in pay.items():
        balances[node] = balances.get(node, 0) + amount
    cooldown = settings.fairness.cooldown
    return replace(
        state.next_round(),
        height=state.height + 1,
        head=block.header_hash,
        head_time_s=block.time_s,
        scale=outcome.scale,
        history={**state.history, **dict(outcome.history)},
        wins={**state.wins, author: state.wins.get(author, 0) + 1},
        recent=(*state.recent, author)[-cooldown:],
        balances=balances,
        treasury=state.treasury + treasury,
        minted=state.minted + settings.rewards.units,
        evidence=(),
        earlier=(),
    )


def _first_lie(told: bytes, expected: bytes) -> str:
    """The first part of the facts that differs."""
    truth = unpack(expected)
    try:
        said = unpack(told)
    except (DataError, UnicodeDecodeError, TypeError, ValueError):
        return "facts"
    if not isinstance(said, dict) or said.keys() != truth.keys():
        return "facts"
    order = ("tally", "scores", "weights", "aggregate", "rewards", "sealed", "standing")
    return next((part for part in order if said[part] != truth[part]), "facts")
