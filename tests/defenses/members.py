"""Play a rule over rounds of submissions: the loop that every HieAvg test needs."""

from __future__ import annotations

import numpy as np
import torch

from fedalign.core.contracts import Context, Late

THREE = {  # the hand-worked rounds: member 2 is missing in rounds 3 and 4
    1: {0: (1, 0), 1: (0, 1), 2: (1, 1)},
    2: {0: (2, 0), 1: (0, 2), 2: (2, 3)},
    3: {0: (3, 0), 1: (0, 3)},
    4: {0: (4, 1), 1: (1, 4)},
    5: {0: (5, 1), 1: (1, 5), 2: (3, 6)},
}


def play(rule, rounds, base=None, memory=None, late=None, weights=None, dtype=torch.float64):
    """round -> (model (d,), Aggregate). rounds: round -> {member: submitted model}. base: a round's
    start model as a function of the round, None for 0. late: round -> {member: (round, model)}."""
    members = sorted({u for sent in rounds.values() for u in sent})
    weights = weights or dict.fromkeys(members, 1.0)
    size = len(next(iter(next(s for s in rounds.values() if s).values())))
    memory, found = memory or {}, {}
    start = (lambda r: torch.zeros(size, dtype=dtype)) if base is None else base
    for r, sent in rounds.items():
        sent_rows = np.array(list(sent.values()), dtype=np.float64).reshape(len(sent), size)
        rows = torch.from_numpy(sent_rows).to(dtype) - start(r)
        given = {
            u: Late(q, torch.tensor(m, dtype=dtype) - start(q), start(q))
            for u, (q, m) in (late or {}).get(r, {}).items()
        }
        context = Context(
            round=r,
            clients=torch.tensor(list(sent), dtype=torch.int64),
            weights=torch.tensor([weights[u] for u in sent], dtype=torch.float64),
            absent={u: weights[u] for u in members if u not in sent},
            late=given,
            model=start(r),
            memory=memory,
        )
        decided = rule(rows, context)
        memory = decided.memory
        found[r] = (decided.vector + start(r), decided)
    return found
