"""Fraud: two signatures that no honest server gives convict their signer.

Paper: none; the classical equivocation proof (our derivation of which messages count).
"""

from __future__ import annotations

from dataclasses import replace

from consensus.identity import SignatureCheck
from consensus.pofel.effects import Removed, Strike
from consensus.pofel.items import Step
from consensus.pofel.messages import Entry, Fraud, Kind
from consensus.pofel.settings import Settings
from consensus.pofel.state import State
from fedalign.core.errors import DataError

# Servers say each of these once per round (a block once per rank); AVAIL and MARK may be repeated.
ONCE = frozenset({Kind.COMMIT, Kind.REVEAL, Kind.VOTE_COMMIT, Kind.VOTE, Kind.BLOCK, Kind.FINAL})


def convicts(body: Fraud, chain_id: int, check: SignatureCheck) -> tuple[bytes, int] | str:
    """(offender, round of the offence), or why the proof fails."""
    try:
        first, second = Entry.decode(body.first), Entry.decode(body.second)
    except DataError:
        return "malformed"
    place = (first.kind, first.chain_id, first.round, first.view, first.sender)
    if place != (second.kind, second.chain_id, second.round, second.view, second.sender):
        return "not_the_same_place"
    if first.kind not in ONCE or first.chain_id != chain_id or first.body == second.body:
        return "no_contradiction"
    for entry in (first, second):
        if reason := check(entry.digest, entry.signature, entry.sender):
            return reason
    return first.sender, first.round


def accuse(state: State, settings: Settings, body: Fraud, check: SignatureCheck) -> Step:
    """Remove the offender from the members of the next `exile` blocks, once per offence."""
    found = convicts(body, settings.chain_id, check)
    if isinstance(found, str):
        return found
    node, round_ = found
    if node not in state.members(settings):
        return "no_member"
    first = state.height + 1
    last = first + settings.exile - 1
    if round_ > state.round:
        return "other_round"
    if round_ <= state.punished.get(node, 0):
        return "already_punished"
    after = replace(
        state.struck(node, "equivocation"),
        exiles={**state.exiles, node: (first, last)},
        punished={**state.punished, node: state.round},
    )
    return after, [Strike(node, "equivocation"), Removed(node, first, last)]
