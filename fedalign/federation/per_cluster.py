"""Per cluster: the rule meets, for every model in the vector, the rows of its members alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Family, Space
from fedalign.core.vectors import Layout, Part
from fedalign.federation.deciding import decide


@dataclass(frozen=True)
class PerCluster(Defense):
    """rule: any that does without `evaluate`, as a part of the vector is no model of the workload.

    Clusters are the tensors whose names begin with `cluster/<k>/`; members of one are the rows
    whose `context.mask` (n, tensors) has these tensors. A cluster without members, or with fewer
    than the rule accepts, keeps its model. Memory: {cluster: memory of the rule there}.
    """

    rule: Defense

    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if "evaluate" in self.rule.needs:
            raise ConfigError(
                f"algorithm=cluster hands each cluster's part of a model to the rule, but "
                f"{type(self.rule).__name__} evaluates whole models: take a rule that does not, "
                "such as median or krum."
            )

    @property
    def needs(self) -> frozenset[str]:
        return self.rule.needs

    @property
    def space(self) -> Space:
        return self.rule.space

    @property
    def family(self) -> Family:
        return self.rule.family

    def minimum(self, byzantine_count: int) -> int:
        return self.rule.minimum(byzantine_count)

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        if context.layout is None or context.mask is None:
            raise ConfigError(
                "PerCluster needs context.layout and context.mask (n, tensors), which tell who "
                "trained what."
            )
        vector, memory = torch.zeros_like(updates[0]), {}
        accepted = torch.zeros(len(updates), dtype=torch.bool, device=updates.device)
        given, skipped, sizes = torch.zeros(len(updates), dtype=torch.float64), [], {}
        for name, places in _clusters(context.layout).items():
            parts = [context.layout.parts[place] for place in places]
            span = slice(parts[0].span.start, parts[-1].span.stop)
            members = context.mask[:, places].all(dim=1).nonzero()[:, 0]
            sizes[name] = len(members)
            here = replace(
                context.inner(name).rows(members).columns(span), layout=_cut(parts), mask=None
            )
            piece = decide(self.rule, updates[members][:, span].contiguous(), here)
            memory[name] = piece.memory
            skipped.append(piece.skipped)
            if piece.skipped:
                continue
            vector[span], accepted[members] = piece.vector, piece.accepted
            if given is not None and piece.coefficients is not None:
                given[members.cpu()] = piece.coefficients.cpu().double()
            else:
                given = None
        return Aggregate(
            vector, accepted, given, memory=memory, notes={"cluster_sizes": sizes},
            skipped=all(skipped),
        )  # fmt: skip


def _clusters(layout: Layout) -> dict[str, Sequence[int]]:
    """`cluster/<k>` -> places of its tensors in the layout."""
    groups: dict[str, list[int]] = {}
    for place, part in enumerate(layout.parts):
        groups.setdefault("/".join(part.name.split("/")[:2]), []).append(place)
    return groups


def _cut(parts: Sequence[Part]) -> Layout:
    """These parts alone, without the cluster in their names."""
    return Layout.of({part.name.split("/", 2)[2]: part.shape for part in parts})
