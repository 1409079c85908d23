"""Shown: a sealed block in plain words, read from its record alone.

Paper: none; our derivation.
"""

from __future__ import annotations

from typing import Any

from consensus.archive import Record
from consensus.audit import last_block
from consensus.encoding import unpack
from consensus.told import Told
from fedalign.core.errors import DataError


def shown(record: Record) -> dict[str, Any]:
    """What the block says, servers by their position, scores in micro-nats, weights in ppm, likeness
    in parts per billion, rewards in base units. Raises DataError, IntegrityError."""
    try:
        return _shown(record)
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"The block states no outcome that can be read: {error!r}.") from error


def _shown(record: Record) -> dict[str, Any]:
    entry = last_block(record)
    block, facts = entry.content, unpack(entry.content.facts)
    _, ranking, totals, votes, wrong = facts["tally"]
    root, _, sizes, likeness, denied = facts["aggregate"]
    history, weights = facts["weights"]
    pay, treasury = facts["rewards"]
    place = {node: position for position, (node, _) in enumerate(weights)}
    told = Told.decode(record.told)
    paid_round, claims_root, entries, total = told.claims
    return {
        "height": block.height,
        "round": entry.round,
        "hash": block.header_hash.hex(),
        "parent": block.parent.hex(),
        "starts_from": told.model.hex(),
        "clock_s": told.clock_ms / 1000,
        "leader": place[ranking[entry.view % len(ranking)]],
        "ranking": [place[node] for node in ranking],
        "totals": {place[node]: votes_ppm for node, votes_ppm in totals},
        "votes": {place[voter]: place[choice] for voter, choice in votes},
        "wrong_votes": [place[node] for node in wrong],
        "scores": {place[voter]: score for voter, _, _, score in facts["scores"]},
        "history": {place[node]: value for node, value in history},
        "weights": {place[node]: value for node, value in weights},
        "aggregate": root.hex(),
        "samples": {place[node]: size for node, size in sizes},
        "likeness_ppb": {place[node]: value for node, value in likeness},
        "denied": [place[node] for node in denied],
        "rewards": {place[node]: units for node, units in pay},
        "treasury": treasury,
        "client_payments": {
            "round": paid_round, "root": claims_root.hex(), "entries": entries, "total": total,
        },
        "standing": _standing(facts["standing"]),
        "signers": sorted(place[final.sender] for final in record.seal.finals),
    }  # fmt: skip


def _standing(told: tuple) -> dict[str, Any] | None:
    """Of servers without a model; None where the rule estimates nobody."""
    if not told:
        return None
    status, estimated, excluded, vetoed, permanent = told
    return {
        "status": status,
        "estimated": {
            who: {"misses": misses, "confidence_ppm": confidence, "weight_ppm": weight}
            for who, misses, confidence, weight in estimated
        },
        "excluded": list(excluded),
        "vetoed": list(vetoed),
        "permanent": list(permanent),
    }
