"""Verify the chain of a run: its blocks replay, and its log tells of them and of no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import kept, plan
from experiments.build import build
from fedalign.core.agreement import Question, Sealed
from fedalign.core.contracts import Updates
from fedalign.core.digest import of_tensor
from fedalign.core.errors import DataError, IntegrityError
from fedalign.core.market import Payments
from fedalign.core.vectors import Layout

Event = Mapping[str, Any]


def blocks(
    folder: Path,
    config: Mapping[str, Any],
    events: Sequence[Event],
    inputs: Mapping[int, Mapping[str, Any]],
    layout: Layout,
) -> int:
    """How many blocks there are. inputs: round -> what was kept of it, whose aggregates are
    decided once more. Raises IntegrityError naming folder, round and check."""
    told = {event["chain"]["height"]: event for event in events if "chain" in event}
    consensus, end = plan.consensus(config), events[-1]
    if not told and end["closing"] is None:
        return 0
    asked = {
        height: _question(config, events, event["round"], inputs[event["round"]], layout)
        for height, event in told.items()
        if event["round"] in inputs
    }
    try:
        consensus.open(folder / "chain")
        audited = consensus.audit(asked)
        ending = consensus.ending(_sealed(events[-2])).hex() if told else None
    except (DataError, IntegrityError) as lie:
        raise IntegrityError(f"{folder}/chain: {lie}") from lie
    if [one.block.height for one in audited] != sorted(told):
        raise IntegrityError(f"{folder}: its log tells of {len(told)} blocks, not of those sealed.")
    for one in audited:
        event, block = told[one.block.height], one.block
        said = event["chain"]
        sealed = (block.round, block.hash.hex(), block.parent.hex(), block.root.hex())
        if sealed != (said["round"], said["hash"], said["parent"], said["root"]):
            _lie(folder, event, "its log tells of another block")
        again = one.aggregate
        if again is not None and of_tensor(again.vector) != event["meeting"]["aggregate"]:
            _lie(folder, event, "the edges' aggregate is not what the rule gives")
    if ending != end["closing"]:
        raise IntegrityError(f"{folder}: the closing block does not seal the last model.")
    return len(audited)


def _question(
    config: Mapping[str, Any],
    events: Sequence[Event],
    round: int,
    inputs: Mapping[str, Any],
    layout: Layout,
) -> Question:
    seen, rule = inputs["groups"]["global"], build(config["global_defense"])
    proposals = Updates(seen["clients"], seen["rows"], seen["weights"])
    context = kept.context(config, rule, seen, layout, round, None)
    return Question(proposals, rule, context, _sealed(events[round - 1]))


def _sealed(event: Event) -> Sealed:
    """What the block after a round (or the beginning) says of it."""
    model = bytes.fromhex(event["model"])
    if event["event"] == "begin":
        return Sealed(model)
    paid = event["payments"]
    payments = Payments(paid["accounts"], paid["amounts"], paid["total"])
    return Sealed(model, payments, event["clock_s"])


def _lie(folder: Path, event: Event, lie: str) -> None:
    raise IntegrityError(f"{folder}: round {event['round']}: {lie}.")
