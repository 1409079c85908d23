"""The inputs of a round's rules: what is kept of them, and the context they make again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from experiments import federation_cell
from fedalign.core.contracts import Context, Defense, Late
from fedalign.core.vectors import Layout
from fedalign.federation.parts import Outcome

NAMES = (
    "clients", "weights", "byzantine_count", "model", "previous", "root_update", "memory", "absent",
    "mask",
)  # fmt: skip


def inputs(outcome: Outcome) -> dict[str, Any]:
    """Everything the rule saw; randomness comes from the revealed secret. Of several edges a
    group each, and "global" for their meeting."""
    if outcome.edges:
        groups = {str(edge): inputs(replace(o, edges={})) for edge, o in outcome.edges.items()}
        if outcome.meeting is not None:
            groups["global"] = inputs(outcome.meeting)
        return {"groups": groups}
    context = outcome.context
    late = {client: dict(vars(late)) for client, late in context.late.items()}
    known = {name: getattr(context, name) for name in NAMES}
    return {"rows": outcome.updates.rows, **known, "late": late}


def complete(outcome: Outcome) -> bool:
    """Whether all that the rules saw is known here: not where rows were let go, nor where an edge
    server's model was sealed and it then died before it told of its round."""
    if outcome.streamed is not None:
        return False
    if outcome.meeting is None or outcome.verdict is None:
        return True
    return set(outcome.verdict.members) <= set(outcome.meeting.updates.clients.tolist())


def context(
    config: Mapping[str, Any],
    rule: Defense,
    kept: Mapping[str, Any],
    layout: Layout,
    round: int,
    rng: np.random.Generator | None,
) -> Context:
    """The context of `inputs` again."""
    evaluate = None
    if "evaluate" in rule.needs:
        workload = federation_cell.client_work(config).workload
        evaluate = lambda vector: workload.evaluate(vector, "server")  # noqa: E731
    return Context(
        **{name: kept.get(name) for name in NAMES},
        late={client: Late(**late) for client, late in kept["late"].items()},
        round=round,
        layout=layout,
        rng=rng,
        evaluate=evaluate,
    )
