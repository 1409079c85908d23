"""Per cluster: the rule meets, for every model in the vector, the rows of its members alone.

Paper: Sattler et al., "Clustered Federated Learning: Model-Agnostic Distributed Multi-Task
Optimization under Privacy Constraints", IEEE TNNLS 2021 (splitting by angles of updates).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.gram import gram
from fedalign.core.vectors import Layout, Part
from fedalign.core.wrapping import Wrapper
from fedalign.federation.deciding import decide


@dataclass(frozen=True)
class PerCluster(Wrapper):
    """rule: any that does without `evaluate`, as a part of the vector is no model of the workload.

    Clusters are the tensors whose names begin with `cluster/<k>/`; members of one are the rows
    whose `context.mask` (n, tensors) has these tensors. Rows that answer for every cluster, as all do
    before there are any, are split by average linkage of their cosine distances. A cluster without members, or with fewer
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

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        if context.layout is None or context.mask is None:
            raise ConfigError(
                "PerCluster needs context.layout and context.mask (n, tensors), which tell who "
                "trained what."
            )
        vector, memory = torch.zeros_like(updates[0]), {}
        groups, mask = _clusters(context.layout), context.mask
        if len(updates) and bool(mask.all()):
            mask = _split(updates, context.layout, groups)
        accepted = torch.zeros(len(updates), dtype=torch.bool, device=updates.device)
        given, skipped, sizes = torch.zeros(len(updates), dtype=torch.float64), [], {}
        for name, places in groups.items():
            parts = [context.layout.parts[place] for place in places]
            span = slice(parts[0].span.start, parts[-1].span.stop)
            members = mask[:, places].all(dim=1).nonzero()[:, 0]
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


def _split(updates: Tensor, layout: Layout, groups: Mapping[str, Sequence[int]]) -> Tensor:
    """(n, tensors), one cluster for each row; the first client's cluster is the first one."""
    places = next(iter(groups.values()))
    span = slice(layout.parts[places[0]].span.start, layout.parts[places[-1]].span.stop)
    products = gram(updates[:, span].contiguous()).cpu()
    lengths = products.diagonal().sqrt().clamp(min=1e-30)
    apart = (1 - products / (lengths[:, None] * lengths[None, :])).clamp(min=0)
    n, mask = len(updates), torch.zeros(len(updates), len(layout.parts), dtype=torch.bool)
    labels = np.ones(n, dtype=int)
    if n > 1:
        pairs = apart[*torch.triu_indices(n, n, 1)].numpy()
        labels = fcluster(linkage(pairs, "average"), len(groups), "maxclust")
    order = {label: i for i, label in enumerate(dict.fromkeys(labels.tolist()))}
    named = list(groups.values())
    for i, label in enumerate(labels.tolist()):
        mask[i, named[order[label]]] = True
    return mask
