"""Task: what every server evaluates in a round, and the one answer all of them reach.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (intermediate models are evaluated); metrics
beyond the cosine, copies and idle servers are our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from consensus.pofel import evaluation, payload
from consensus.pofel.beacon import coordinates
from fedalign.core.errors import ConfigError

Metric = Literal["cosine_update", "cosine_weights", "neg_l2_update", "spp"]
Combine = Callable[[Sequence[np.ndarray], Sequence[int]], np.ndarray]


@dataclass(frozen=True)
class Task:
    """servers: (node, model root, samples) in commit order. earlier: (author, model root) of
    rounds that were aborted since the last block. scale: s. beacon: of this round."""

    round: int
    servers: tuple[tuple[bytes, bytes, int], ...]
    earlier: tuple[tuple[bytes, bytes], ...]
    scale: int
    beacon: bytes

    @property
    def roots(self) -> tuple[bytes, ...]:
        """Every model the evaluation reads."""
        return tuple(dict.fromkeys([r for _, r in self.earlier] + [r for _, r, _ in self.servers]))


@dataclass(frozen=True)
class Evaluated:
    """global_root: of the aggregate update. scale: of the next round. likeness_ppb: cosine of
    each server. best: the first of the ranking, all that tie. copies, idle: earn nothing.
    sealed: 32 bytes about the round before, which all servers know and the block records.
    standing: what a rule that estimates says of servers without a model, plain data; else ()."""

    round: int
    global_root: bytes
    scale: int
    likeness_ppb: tuple[tuple[bytes, int], ...]
    best: tuple[bytes, ...]
    copies: tuple[bytes, ...] = ()
    idle: tuple[bytes, ...] = ()
    sealed: bytes = bytes(32)
    standing: tuple = ()


@dataclass(frozen=True)
class Evaluator:
    """Turns a Task and the updates it names into an Evaluated, in integers.

    metric: what the ranking looks at; "spp" the cosine on coordinates drawn from the beacon;
    "cosine_weights" the cosine of whole models, of little use where they barely differ.
    spp_ppm: their share. delta_ppm: rows nearer than this share of the longer one are copies.
    idle_squared: |q|² up to which a row is no work, in units of 2^-2s.
    """

    metric: Metric = "cosine_update"
    spp_ppm: int = 500_000
    delta_ppm: int = 1000
    idle_squared: int = 0

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ConfigError(
                f"The metric is one of {', '.join(get_args(Metric))}; got '{self.metric}'."
            )
        if not 0 < self.spp_ppm <= 1_000_000 or self.delta_ppm < 0 or self.idle_squared < 0:
            raise ConfigError(
                "Evaluation needs spp_ppm in 1 .. 1000000, delta_ppm >= 0 and idle_squared >= 0, "
                f"got {self.spp_ppm}, {self.delta_ppm} and {self.idle_squared}."
            )

    def __call__(
        self,
        task: Task,
        updates: Mapping[bytes, np.ndarray],
        combine: Combine = evaluation.aggregate,
        model: np.ndarray | None = None,
    ) -> Evaluated:
        """updates: model root -> (d,) int64. combine: rows and samples -> aggregate, both int64.
        model: (d,) int64 at the same scale, for "cosine_weights" only."""
        nodes = [node for node, _, _ in task.servers]
        rows = [updates[root] for _, root, _ in task.servers]
        merged = combine(rows, [size for _, _, size in task.servers])
        n, authors = len(rows), [author for author, _ in task.earlier]
        table = evaluation.Products([*rows, merged, *(updates[root] for _, root in task.earlier)])
        shown = self._shown(table, rows, merged, task, model)
        distance = self.metric == "neg_l2_update"
        rank = evaluation.nearest_point if distance else evaluation.nearest_direction
        order = [*range(n + 1, len(table)), *range(n)]  # models of aborted rounds came first
        copies = evaluation.copied(table, order, self.delta_ppm, authors + nodes)
        return Evaluated(
            round=task.round,
            global_root=payload.root(merged, task.scale),
            scale=evaluation.next_scale(task.scale, merged),
            likeness_ppb=tuple(
                (node, evaluation.cosine_ppb(shown, i, n)) for i, node in enumerate(nodes)
            ),
            best=tuple(nodes[i] for i in rank(shown)[0]),
            copies=tuple(nodes[order[i]] for i in copies if order[i] < n),
            idle=tuple(nodes[i] for i in range(n) if table(i, i) <= self.idle_squared),
        )

    def _shown(
        self, table: evaluation.Products, rows: list[np.ndarray], merged: np.ndarray, task: Task,
        model: np.ndarray | None,
    ) -> evaluation.Products:  # fmt: skip
        """What the ranking compares, the goal last."""
        if self.metric == "spp":
            chosen = coordinates(task.beacon, len(merged), self.spp_ppm)
            return evaluation.Products([row[chosen] for row in (*rows, merged)])
        if self.metric == "cosine_weights":
            if model is None:
                raise ConfigError(
                    "The metric 'cosine_weights' needs the model the round began with."
                )
            return evaluation.Products([row + model for row in (*rows, merged)])
        if len(table) == len(rows) + 1:
            return table
        return evaluation.Products([*rows, merged])
