"""Any defense of fedalign as a Flower strategy, in three lines of any Flower app:

from defenses.krum import Krum
from fedalign.federation.runtimes.flower.strategy import Defended
strategy = Defended(Krum(byzantine_count=2))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from logging import INFO, WARNING
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore import log
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, Memory
from fedalign.core.errors import ConfigError, ToleranceError
from fedalign.core.seeds import Seeds
from fedalign.federation.runtimes.flower.records import alike, filled, flatten, layout


class Defended(FedAvg):
    """Flower's FedAvg with a rule of `defenses/` in place of the mean.

    rule: gets updates (n, d) = what clients sent minus what they were sent, floating-point arrays
    only; other arrays are those of the first accepted client. byzantine_count: f of the context,
    for rules that were given none. root: model -> the model that the server trains from it on its
    own data; evaluate: model -> {"loss", "accuracy"} on the server's data; both only for rules that
    need them. seed: of the rule's randomness. flower: the arguments of Flower's FedAvg.

    A reply that is not finite or not shaped like the model never reaches the rule. Where nobody is
    left, or fewer than the rule needs, the model stays. `decisions` tells of every round who was
    accepted, who was refused and why. Memory of a rule lives in this object: one run, one object.
    """

    def __init__(
        self,
        rule: Defense,
        byzantine_count: int | None = None,
        root: Callable[[ArrayRecord], ArrayRecord] | None = None,
        evaluate: Callable[[ArrayRecord], Mapping[str, float]] | None = None,
        seed: int = 0,
        **flower: Any,
    ):
        super().__init__(**flower)
        for need, given in (("root_update", root), ("evaluate", evaluate)):
            if need in rule.needs and given is None:
                word = {"root_update": "root", "evaluate": "evaluate"}[need]
                raise ConfigError(
                    f"{type(rule).__name__} needs {need}: give Defended(..., {word}=function)."
                )
        self.rule, self.byzantine_count = rule, byzantine_count
        self.decisions: list[dict[str, Any]] = []
        self._root, self._evaluate, self._seeds = root, evaluate, Seeds(seed)
        self._sent: ArrayRecord | None = None
        self._before: Tensor | None = None
        self._memory: Memory = {}

    def summary(self) -> None:
        log(INFO, "\t├──> Rule: %s", self.rule)
        super().summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As FedAvg; remembers the model that this round starts from."""
        self._sent = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The rule's decision as a model, and the metrics of those it accepted."""
        answered, failed = self._check_and_log_replies(replies, is_train=True, validate=False)
        refused = {m.metadata.src_node_id: f"failed: {m.error.reason}" for m in failed}
        usable, rows = [], []
        for message in sorted(answered, key=lambda m: m.metadata.src_node_id):
            why = self._wrong(message)
            row = None if why else flatten(_arrays(message))
            if why is None and not bool(torch.isfinite(row).all()):
                why = "holds NaN or Inf"
            if why:
                refused[message.metadata.src_node_id] = why
                log(WARNING, "Reply of node %d refused: it %s", message.metadata.src_node_id, why)
            else:
                usable.append(message)
                rows.append(row)
        model = flatten(self._sent)
        aggregate = self._decide(server_round, model, rows, usable)
        self._note(server_round, aggregate, usable, refused)
        self._before = model
        if aggregate.skipped:
            return self._sent, None
        taken = [m for m, yes in zip(usable, aggregate.accepted.tolist(), strict=True) if yes]
        pattern = _arrays(taken[0]) if taken else self._sent
        metrics = self.train_metrics_aggr_fn(
            [m.content for m in taken or usable], self.weighted_by_key
        )
        order = {name: pattern[name] for name in self._sent}
        return filled(ArrayRecord(order), model + aggregate.vector), metrics

    def _wrong(self, message: Message) -> str | None:
        """Why a reply cannot be used, or None."""
        content = message.content
        if len(content.array_records) != 1 or len(content.metric_records) != 1:
            return "must hold one ArrayRecord and one MetricRecord"
        if not alike(self._sent, _arrays(message)):
            return "holds arrays of other names, shapes or types than the model"
        weight = _metrics(message).get(self.weighted_by_key)
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            return f"holds no positive '{self.weighted_by_key}'"
        return None

    def _decide(
        self, round: int, model: Tensor, rows: list[Tensor], usable: list[Message]
    ) -> Aggregate:
        updates = torch.stack(rows) - model if rows else model.new_zeros(0, len(model))
        context = Context(
            round=round,
            clients=torch.tensor([m.metadata.src_node_id % 2**62 for m in usable]),
            weights=torch.tensor([_metrics(m)[self.weighted_by_key] for m in usable]).double(),
            byzantine_count=self.byzantine_count,
            model=model,
            previous=self._before,
            layout=layout(self._sent),
            rng=self._seeds.at("rule", round=round),
            memory=self._memory,
        )
        if "root_update" in self.rule.needs:
            trained = flatten(self._root(self._sent))
            context = replace(context, root_update=trained - model)
        if "evaluate" in self.rule.needs:
            sent, measure = self._sent, self._evaluate
            context = replace(context, evaluate=lambda vector: measure(filled(sent, vector)))
        nobody = Aggregate(
            torch.zeros_like(model), torch.zeros(len(rows), dtype=torch.bool), skipped=True,
            memory=self._memory,
        )  # fmt: skip
        if not rows:
            return replace(nobody, notes={"skipped": "no usable reply arrived"})
        try:
            aggregate = self.rule(updates, context)
        except ToleranceError as error:
            log(WARNING, "The model stays: %s", error)
            return replace(nobody, notes={"skipped": str(error)})
        self._memory = aggregate.memory
        return aggregate

    def _note(
        self, round: int, aggregate: Aggregate, usable: list[Message], refused: Mapping[int, str]
    ) -> None:
        ids = [m.metadata.src_node_id for m in usable]
        pairs = list(zip(ids, aggregate.accepted.tolist(), strict=True))
        self.decisions.append({
            "round": round,
            "accepted": [node for node, yes in pairs if yes],
            "rejected": [node for node, yes in pairs if not yes],
            "refused": dict(refused),
            "notes": dict(aggregate.notes),
        })  # fmt: skip


def _arrays(message: Message) -> ArrayRecord:
    return next(iter(message.content.array_records.values()))


def _metrics(message: Message) -> MetricRecord:
    return next(iter(message.content.metric_records.values()))
