"""What the parts of a federation promise each other.

Shapes: n clients of a block, m of them controlled by the attacker, d values in a payload.
State is passed and returned, never kept: that lets servers re-compute each other's aggregates
and a run resume after `kill -9`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fedalign.core.errors import ConfigError, ToleranceError
from fedalign.core.threat import Crafted, Family, Knowledge, Space, View
from fedalign.core.vectors import Layout, combine, counted

Memory = Mapping[str, Any]  # tensors, numbers, strings, bytes, nested mappings; never pickled
ROOT = -1  # the "client" that is the server's own root data set
Evaluate = Callable[[Tensor], Mapping[str, float]]
Gradient = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Edits a local gradient: (gradients (k, d), parameters (k, d), start (k, d)) -> gradients."""


# ---------------------------------------------------------------- what flows


@dataclass(frozen=True)
class State:
    """A run between two rounds, and what a checkpoint holds.

    round: the last finished one, 0 before the first. clock_s: simulated seconds.
    model: (d,). previous: the model one round earlier, None before the first.
    memory: owner -> Memory; owners are algorithm, attack, edge/<id>, global, incentive.
    """

    round: int
    model: Tensor
    previous: Tensor | None = None
    clock_s: float = 0.0
    memory: Mapping[str, Memory] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """How much a client does: `steps` if given, else `epochs` over its own data."""

    epochs: int = 1
    steps: int | None = None


@dataclass(frozen=True)
class ClientTask:
    """All that reaches a client. vector: (d,), the model to start from. poisoned: train on the
    attacker's version of the client's data. extra: named tensors an algorithm sends along."""

    step: Literal["probe", "train", "evaluate"]
    client: int
    round: int
    vector: Tensor
    work: Work
    edge: int = 0
    poisoned: bool = False
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Updates:
    """All that leaves a block of clients.

    clients: (n,) ids. rows: (n, d). samples: (n,). ready_s: (n,) seconds after the start of the
    round. metrics: name -> (n,). failed: client -> reason, for clients without a row.
    """

    clients: Tensor
    rows: Tensor
    samples: Tensor
    ready_s: Tensor | None = None
    mask: Tensor | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)

    @staticmethod
    def concatenate(blocks: Sequence[Updates]) -> Updates:
        """Blocks in order -> one; those without a row may lack mask and metrics."""
        failed = {client: why for block in blocks for client, why in block.failed.items()}
        full = [block for block in blocks if len(block.clients)] or list(blocks[:1])
        if len(full) == 1:
            return replace(full[0], failed=failed)
        names = ("clients", "rows", "samples")
        return Updates(
            **{n: torch.cat([getattr(b, n) for b in full]) for n in names},
            mask=None if full[0].mask is None else torch.cat([b.mask for b in full]),
            metrics={k: torch.cat([b.metrics[k] for b in full]) for k in full[0].metrics},
            failed=failed,
        )


@dataclass(frozen=True)
class ClientInfo:
    """What everybody may know of a client."""

    id: int
    samples: int
    classes: tuple[int, ...] = ()  # samples per class, where there are classes
    online: float = 1.0  # the probability that it can be reached in a round


@dataclass(frozen=True)
class Dataset:
    """Labelled rows. inputs: (N, *shape) float32, scaled. labels: (N,) int64 in 0 .. classes-1."""

    inputs: Tensor
    labels: Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Dataset:
        """The data set of these row indices, in this order."""
        return replace(self, inputs=self.inputs[rows], labels=self.labels[rows])


# ---------------------------------------------------------------- rules


@dataclass(frozen=True)
class Late:
    """A row that arrived after its round was closed. round: which one. row: (d,), an update of
    start: (d,), the model its sender received in that round, or None where rows are models."""

    round: int
    row: Tensor
    start: Tensor | None = None


@dataclass(frozen=True)
class Context:
    """What a rule may know besides the rows. Every field is optional.

    clients, weights: (n,) ids and sample weights. absent: the weights of members that were to
    send a row and have none. late: rows of earlier rounds that arrived since. byzantine_count: f, known to the server.
    model: (d,), the model the updates start from. previous: (d,), the model one round before.
    root_update: (d,), the update of the server's own root data. evaluate: a *model* (d,) ->
    {"loss", "accuracy"} on the server's split. rng: drawn from after submissions closed.
    memory: what this rule returned in `Aggregate.memory` last time.
    """

    round: int = 1
    clients: Tensor | None = None
    weights: Tensor | None = None
    absent: Mapping[int, float] = field(default_factory=dict)
    late: Mapping[int, Late] = field(default_factory=dict)
    byzantine_count: int | None = None
    model: Tensor | None = None
    previous: Tensor | None = None
    root_update: Tensor | None = None
    evaluate: Evaluate | None = None
    mask: Tensor | None = None
    layout: Layout | None = None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    memory: Memory = field(default_factory=dict)

    def byzantine(self, own: int | None = None) -> int:
        """f: the rule's own argument, else what the round knows; refuses to guess."""
        count = self.byzantine_count if own is None else own
        if count is None:
            raise ConfigError(
                "How many clients may lie is not known: pass byzantine_count to the rule "
                "or Context(byzantine_count=...)."
            )
        if count < 0:
            raise ConfigError(f"byzantine_count must be 0 or more, got {count}.")
        return count

    def rows(self, keep: Tensor) -> Context:
        """The context of `updates[keep]`; keep is a bool mask (n,) or indices."""
        return replace(
            self,
            clients=None if self.clients is None else self.clients[keep],
            weights=None if self.weights is None else self.weights[keep],
            mask=None if self.mask is None else self.mask[keep],
        )

    def columns(self, keep: Tensor | slice) -> Context:
        """The context of `updates[:, keep]`: vectors are cut, layout and evaluation fall away."""
        cut = {
            name: None if (vector := getattr(self, name)) is None else vector[keep]
            for name in ("model", "previous", "root_update")
        }
        return replace(self, **cut, layout=None, evaluate=None)

    def mixed(self, mixture: Tensor) -> Context:
        """The context of `mixture @ updates`, (k, n): rows are no longer single clients."""
        weights = None if self.weights is None else mixture.to(self.weights.dtype) @ self.weights
        return replace(self, clients=None, weights=weights, mask=None)

    def inner(self, name: str) -> Context:
        """The context of a wrapped rule: its memory lives under `name` in the wrapper's."""
        return replace(self, memory=self.memory.get(name, {}))


@dataclass(frozen=True)
class Aggregate:
    """What a rule decides.

    vector: (d,), an update. accepted: (n,) bool; soft rules reject below weight 1/(10 n).
    coefficients: (n,), with vector = coefficients @ updates, or None where the rule is not a
    linear combination. scores: (n,), rule-specific. memory: handed back next round. notes:
    plain data for the log. skipped: nobody was accepted, the previous model stays.
    """

    vector: Tensor
    accepted: Tensor
    coefficients: Tensor | None = None
    scores: Tensor | None = None
    memory: Memory = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    skipped: bool = False

    @staticmethod
    def combine(
        updates: Tensor,
        coefficients: Tensor,
        *,
        accepted: Tensor | None = None,
        scores: Tensor | None = None,
        memory: Memory | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Aggregate:
        """The linear combination `coefficients @ updates`; all coefficients 0 means skipped."""
        if accepted is None:
            accepted = counted(coefficients)
        skipped = not bool(coefficients.any())
        return Aggregate(
            vector=combine(coefficients, updates),
            accepted=accepted,
            coefficients=coefficients,
            scores=scores,
            memory=memory or {},
            notes=notes or {},
            skipped=skipped,
        )

    @staticmethod
    def mean(updates: Tensor, keep: Tensor, **rest: Any) -> Aggregate:
        """The plain mean of the rows where `keep` (n,) is true; none means skipped."""
        count = max(int(keep.sum()), 1)
        return Aggregate.combine(updates, keep.to(torch.float64) / count, accepted=keep, **rest)

    @staticmethod
    def select(updates: Tensor, chosen: Tensor | int, **rest: Any) -> Aggregate:
        """Exactly one row."""
        keep = torch.zeros(len(updates), dtype=torch.bool, device=updates.device)
        keep[int(chosen)] = True
        return Aggregate.mean(updates, keep, **rest)

    @staticmethod
    def skip(updates: Tensor, **rest: Any) -> Aggregate:
        """Nobody was accepted."""
        none = torch.zeros(len(updates), dtype=torch.bool, device=updates.device)
        return Aggregate(torch.zeros_like(updates[0]), none, skipped=True, **rest)


class Defense(Protocol):
    """A rule at an edge, among edges, or a wrapper of another (then it has a field `rule`).

    Gets updates (n, d) and works on exactly these rows; where `space` is "model" and
    `context.model` is given, it tests `updates + context.model`, but rows and result always
    travel as updates. Frozen, pure. Facts below are checked before any training.

    needs: of root_update, evaluate, mask: the round prepares only these.
    linear: the result is a combination of rows (`coefficients` is given).
    test: what a wrapper may repeat on a few coordinates. always: the coefficients look at no row;
    threshold: each client passes or fails; selection: some clients are taken; weighted: clients
    get weights, those accepted alone get the same ones; none: no such test, or it has memory.
    estimates: it answers for absent members, and is asked even when nobody arrived. waits: its
    rounds are not closed before every member that is only late has arrived.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    test: ClassVar[Literal["none", "always", "threshold", "selection", "weighted"]] = "none"
    space: Space = "update"
    family: Family = "other"
    linear: bool = True
    estimates: ClassVar[bool] = False
    waits: ClassVar[bool] = False

    def minimum(self, byzantine_count: int) -> int:
        """The fewest clients this rule accepts with that many Byzantine ones."""
        return 1

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate: ...


def require(rule: Defense, clients: int, byzantine: int, name: str | None = None) -> None:
    """Raise ToleranceError where `rule.minimum(byzantine)` exceeds `clients`."""
    if clients >= rule.minimum(byzantine):
        return
    allows = next((f for f in range(byzantine, -1, -1) if rule.minimum(f) <= clients), None)
    raise ToleranceError(
        defense=name or type(rule).__name__,
        clients=clients,
        byzantine=byzantine,
        needs=rule.minimum(byzantine),
        allows=allows,
    )


# ---------------------------------------------------------------- attacks


@runtime_checkable
class UpdateAttack(Protocol):
    """Replaces the rows of the controlled clients. Frozen; state goes through View.memory."""

    knowledge: Knowledge

    def __call__(self, view: View) -> Crafted: ...


@runtime_checkable
class DataAttack(Protocol):
    """Replaces the data of the controlled clients; alone, it trains honestly on them.

    `member` counts the attackers 0 .. m-1, so that they can share work (DBA's trigger parts).
    """

    def poison(self, dataset: Any, rng: np.random.Generator, member: int) -> Any: ...

    def triggered(self, dataset: Any) -> Any | None:
        """Held-out rows whose success rate is reported, or None."""


# ---------------------------------------------------------------- training


class Workload(Protocol):
    """Data, model, loss and metrics. `train` is pure: same tasks, same rows."""

    layout: Layout
    clients: Sequence[ClientInfo]

    def initial(self) -> Tensor: ...

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]: ...

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """split: test, server or triggered; rules only ever see "server"."""


@runtime_checkable
class Speaking(Protocol):
    """A workload whose model writes text."""

    def samples(self, vector: Tensor) -> Sequence[Mapping[str, Any]]:
        """Rows {prompt, before, after, ...}: answers of the first model and of this one (d,)."""


class Algorithm(Protocol):
    """What is sent, how it is trained and merged."""

    def shared(self, name: str) -> bool:
        """Whether this trainable leaves the client; what does not is the client's own memory."""

    def assign(
        self, tasks: Sequence[ClientTask], probes: Updates | None, memory: Memory
    ) -> Sequence[ClientTask]: ...

    def client_step(
        self, workload: Workload, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]: ...

    def server_step(
        self, workload: Workload, model: Tensor, aggregate: Aggregate, memory: Memory
    ) -> tuple[Tensor, Memory]: ...


class Runtime(Protocol):
    """Where client work happens and where client memories stay."""

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[Updates]:
        """Blocks in task order, whatever the order of finishing."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...

    def close(self) -> None: ...
