"""Swap: commit to, and reveal, another model than the own one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consensus.fault import FaultView
from consensus.identity import Key
from consensus.pofel import speech
from consensus.pofel.messages import Commit, Entry, Kind


def swap(
    outgoing: Sequence[Entry], view: FaultView, key: Key, values: np.ndarray, factor: int = 1
) -> list[Entry]:
    """`outgoing` with `values` (d,) int64 as the server's model, its samples times `factor`."""
    result = []
    for entry in outgoing:
        if entry.kind is Kind.COMMIT:
            told: Commit = entry.content
            root, _ = view.put(values)
            size = max(told.size, 1) * factor
            entry = view.say(
                key,
                speech.commit(
                    view.settings, view.state, view.node, root, size, told.time_s, key.secret
                ),
            )
        elif entry.kind is Kind.REVEAL:
            root, length = view.put(values)
            entry = view.say(key, speech.reveal(view.state, root, length, key.secret))
        result.append(entry)
    return result
