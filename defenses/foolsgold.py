"""FoolsGold: clients whose summed updates look too much alike are one attacker in many coats.

Paper: Fung et al., "The Limitations of Federated Learning in Sybil Settings", RAID 2020,
Algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense, Memory
from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.core.gram import gram
from fedalign.core.threat import Family, Space
from fedalign.core.vectors import counted


@dataclass(frozen=True)
class FoolsGold(Defense):
    """Weight clients by the novelty of their history h_i = sum over rounds of x_i.

    confidence: kappa > 0, how steeply weights leave 1/2. part: compare only the tensors whose
    name matches this pattern ("*head*", "*lora_B*"); None compares all; needs `context.layout`.
    normalize: divide by the sum of the weights (the paper does not: it adds them up).
    Memory: {"clients": (k,) ids, "history": (k, d) sums}, everybody ever seen, sorted by id.
    """

    confidence: float = 1.0
    part: str | None = None
    normalize: bool = True

    needs: ClassVar[frozenset[str]] = frozenset()
    space: ClassVar[Space] = "update"
    family: ClassVar[Family] = "cosine"
    linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.confidence > 0:
            raise ConfigError(
                f"FoolsGold's confidence must be above 0 (the paper uses 1), got {self.confidence}."
            )

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        history, memory = _remember(self._columns(updates, context), context)
        weights = _weights(_cosines(history), self.confidence)
        total = weights.sum()
        return Aggregate.combine(
            updates,
            weights / total if self.normalize else weights,
            accepted=counted(weights),
            scores=weights,
            memory=memory,
        )

    def _columns(self, updates: Tensor, context: Context) -> Tensor:
        if self.part is None:
            return updates
        if context.layout is None:
            raise ConfigError(
                f"FoolsGold compares the tensors named '{self.part}', got a context without a "
                "layout: pass Context(layout=...) or part=None."
            )
        parts = context.layout.parts
        chosen = [updates[:, p.span] for p in parts if fnmatchcase(p.name, self.part)]
        if not chosen:
            raise UnknownNameError("tensor", self.part, [p.name for p in parts])
        return torch.cat(chosen, dim=1)


def _remember(rows: Tensor, context: Context) -> tuple[Tensor, Memory]:
    """Histories of the present clients, this round included, and the memory of all."""
    present = torch.arange(len(rows)) if context.clients is None else context.clients.cpu()
    past = (
        dict(zip(context.memory["clients"].tolist(), context.memory["history"], strict=True))
        if context.memory
        else {}
    )
    sums = [
        past[c] + row if c in past else row for c, row in zip(present.tolist(), rows, strict=True)
    ]
    # A liar may add up to infinity; one NaN cosine would blind the rule to everybody.
    sums = [h.clamp(min=torch.finfo(h.dtype).min, max=torch.finfo(h.dtype).max) for h in sums]
    past.update(zip(present.tolist(), sums, strict=True))
    known = sorted(past)
    memory = {"clients": torch.tensor(known), "history": torch.stack([past[c] for c in known])}
    return torch.stack(sums), memory


def _cosines(history: Tensor) -> Tensor:
    """(n, n) float64, 0 on the diagonal and for clients that never moved."""
    products = gram(history)
    lengths = products.diagonal().sqrt()
    lengths = torch.where(lengths > 0, lengths, torch.inf)
    return (products / lengths[:, None] / lengths[None, :]).fill_diagonal_(0)


def _weights(cosines: Tensor, confidence: float) -> Tensor:
    """(n,) in [0, 1]; the most novel client's is above 0."""
    nearest = cosines.max(dim=1).values
    # Pardoning: whoever looks like an even more suspicious client is judged more mildly.
    pardon = torch.where(
        nearest[None, :] > nearest[:, None], nearest[:, None] / nearest[None, :], 1
    )
    novelty = (1 - (cosines * pardon).max(dim=1).values).clamp(0, 1)
    top = novelty.max()
    novelty = novelty / top if top > 0 else torch.ones_like(novelty)
    novelty = torch.where(novelty == 1, 0.99, novelty)
    return (confidence * (torch.logit(novelty) + 0.5)).clamp(0, 1)
