"""Job: what is to be decided in a round, as every server computes it on its own.

Paper: none; our derivation (any rule on dyadic rows, chance from the round's beacon).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from consensus.actions import Evaluate
from consensus.costs import Ledger
from consensus.exact import Exact
from consensus.pofel import evaluation
from consensus.pofel.beacon import draws
from consensus.pofel.task import Evaluated, Evaluator, Task
from fedalign.core.contracts import Aggregate, Context, Defense, Updates
from fedalign.core.errors import ToleranceError


@dataclass(frozen=True)
class Job:
    """rule, context: as given to `agree`, rows in the order of the proposals. nodes: node id ->
    (row among the proposals, position in the chain). sealed: 32 bytes about the round before."""

    rule: Defense
    context: Context
    nodes: Mapping[bytes, tuple[int, int]]
    evaluator: Evaluator
    sealed: bytes

    def evaluate(
        self, task: Task, updates: Mapping[bytes, np.ndarray]
    ) -> tuple[Evaluated, Aggregate]:
        """The round's evaluation, and the rule's decision on the task's servers in their order."""
        decisions: list[Aggregate] = []

        def combine(rows: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
            decision, values = self._decide(task, rows, sizes)
            decisions.append(decision)
            return values

        model = self.context.model
        if self.evaluator.metric == "cosine_weights" and model is not None:
            model = evaluation.quantize(model.detach().cpu().numpy(), task.scale)
        else:
            model = None
        found = self.evaluator(task, updates, combine, model)
        decision = decisions[0]
        return replace(found, sealed=self.sealed, standing=standing(decision)), decision

    def _decide(
        self, task: Task, rows: Sequence[np.ndarray], sizes: Sequence[int]
    ) -> tuple[Aggregate, np.ndarray]:
        """A round that falls below the rule's condition, servers missing, moves nothing."""
        places = [self.nodes[node] for node, _, _ in task.servers]
        keep = torch.tensor([row for row, _ in places])
        context = replace(
            self.context.rows(keep),
            clients=torch.tensor([position for _, position in places]),
            weights=torch.tensor(sizes, dtype=torch.float64),
            absent=self._absent(places),
            rng=draws(task.beacon, "rule"),
        )
        try:
            return Exact(self.rule, task.scale).decide(rows, context)
        except ToleranceError as error:
            shape = (len(rows), len(rows[0]))
            none = torch.zeros(shape, dtype=torch.float64)
            notes = {"skipped": str(error)}
            nobody = Aggregate.skip(none, notes=notes, memory=self.context.memory)
            return nobody, np.zeros(shape[1], dtype=np.int64)

    def _absent(self, here: Sequence[tuple[int, int]]) -> dict[int, float]:
        """Who proposed but is not in the round joins those who were late anyway."""
        weights, absent = self.context.weights, dict(self.context.absent)
        for row, position in self.nodes.values():
            if (row, position) not in here:
                absent[position] = 1.0 if weights is None else float(weights[row])
        return absent


class Desk:
    """Where the servers of one process evaluate. recompute: each by itself; otherwise the first
    one to get there does it for all, which only saves time. answers: server -> its decision."""

    def __init__(self, job: Job, ledger: Ledger, recompute: bool):
        self._job, self._ledger, self._recompute = job, ledger, recompute
        self._known: dict[Task, tuple[Evaluated, Aggregate]] = {}
        self.answers: dict[int, Aggregate] = {}

    def of(self, server: int) -> Evaluate:
        """The evaluation as this server does it."""

        def evaluate(task: Task, read: Callable[[bytes], np.ndarray]) -> Evaluated:
            with self._ledger.working("evaluate"):
                if self._recompute or task not in self._known:
                    updates = {root: read(root) for root in task.roots}
                    self._known[task] = self._job.evaluate(task, updates)
                found, self.answers[server] = self._known[task]
                return found

        return evaluate


def standing(decision: Aggregate) -> tuple:
    """What a rule that estimates decided on servers without a model, as plain data for the block:
    (status, ((position, misses, confidence, weight), ...), excluded, vetoed, permanent), confidence
    and weight in ppm; () from a rule that estimates nobody."""
    notes = decision.notes
    if "estimated" not in notes and "excluded" not in notes and "permanent" not in notes:
        return ()
    estimated = tuple(
        (int(who), int(of["misses"]), round(1e6 * of["confidence"]), round(1e6 * of["weight"]))
        for who, of in sorted(notes.get("estimated", {}).items())
    )
    lists = (tuple(map(int, notes.get(name, ()))) for name in ("excluded", "vetoed", "permanent"))
    return (str(notes["status"]), estimated, *lists)


def in_order(decision: Aggregate, roster: Sequence[int], proposals: Updates) -> Aggregate:
    """What was decided on the roster, told about all proposals in their order; who proposed nothing
    that is known here is left out."""
    row = {int(position): i for i, position in enumerate(proposals.clients)}
    known = torch.tensor([i for i, position in enumerate(roster) if position in row]).long()
    places = torch.tensor([row[roster[i]] for i in known.tolist()]).long()

    def spread(values: torch.Tensor | None) -> torch.Tensor | None:
        if values is None:
            return None
        wide = values.new_zeros(len(row))
        wide[places] = values[known]
        return wide

    return replace(
        decision, vector=decision.vector.to(proposals.rows.dtype),
        accepted=spread(decision.accepted), coefficients=spread(decision.coefficients),
        scores=spread(decision.scores),
    )  # fmt: skip
