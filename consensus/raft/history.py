"""History: was what clients saw possible with one copy of the data?

Clients append unique values to lists and read whole lists. The lists themselves tell the order of
the appends, so Wing and Gong's search collapses to one sweep per key over real time.

Paper: Wing and Gong, "Testing and Verifying Concurrent Objects", JPDC 1993.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Operation(NamedTuple):
    """One call: an append of `value`, or a read that saw `seen`. finished_ns None: unanswered."""

    key: str
    started_ns: int
    finished_ns: int | None
    value: str | None = None
    seen: tuple[str, ...] | None = None


def violation(operations: Sequence[Operation], final: Mapping[str, Sequence[str]]) -> str:
    """Why the history is not linearizable given the final lists; empty if it is."""
    by_key: dict[str, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    for key in sorted(by_key):
        reason = _violation_of_key(by_key[key], tuple(final.get(key, ())))
        if reason:
            return f"key {key}: {reason}"
    return ""


def _violation_of_key(operations: list[Operation], final: tuple[str, ...]) -> str:
    """Place appends at their position p, reads of length k at k + 1/2 (doubled: 2p, 2k + 1)."""
    position = {value: index for index, value in enumerate(final, 1)}
    if len(position) != len(final):
        return "a value was appended twice"
    placed = []
    for operation in operations:
        if operation.value is not None:
            if operation.value in position:
                placed.append((operation, 2 * position[operation.value]))
            elif operation.finished_ns is not None:
                return f"the acknowledged append of {operation.value} is lost"
        elif operation.finished_ns is not None:
            if operation.seen != final[: len(operation.seen)]:
                return f"a read saw {operation.seen}, which never was the list"
            placed.append((operation, 2 * len(operation.seen) + 1))
    return _out_of_order(placed)


def _out_of_order(placed: list[tuple[Operation, int]]) -> str:
    """An operation may not be placed before one that had finished when it started."""
    finished = sorted(
        ((o.finished_ns, place) for o, place in placed if o.finished_ns is not None),
    )
    reached, index = 0, 0
    for operation, place in sorted(placed, key=lambda item: item[0].started_ns):
        while index < len(finished) and finished[index][0] < operation.started_ns:
            reached = max(reached, finished[index][1])
            index += 1
        if place < reached:
            what = operation.value if operation.value is not None else operation.seen
            return f"{what} took effect before something that had finished earlier"
    return ""
