"""Product space: compare what adapters do to the weights, not the factors they are written in.

Paper: none; our derivation (flipping the sign of a row of A and a column of B changes no answer of
the model and every distance and angle between factors; B A - B_0 A_0 is not fooled).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses._checks import factored
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.gauge import aligned, points, product_gram
from fedalign.core.threat import Space
from fedalign.core.vectors import combine
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class ProductSpace(Wrapper):
    """The rule judges points that have the inner products of the updates B_i A_i - B_0 A_0 (tensors
    that are no LoRA factors enter as they are); its coefficients combine the rows themselves, each
    first turned into the model's gauge, so that factors can be averaged.

    rule: decides by lengths, distances or angles and answers with coefficients, without memory:
    krum, multi_krum, norm_filter, fltrust_update, fedavg. Turning undoes signs, permutations and
    rotations; a pair scaled by c and 1 / c is judged rightly and averaged as it is.
    Needs `context.layout` and `context.model`.
    """

    rule: Defense

    linear: ClassVar[bool] = True
    space: ClassVar[Space] = "update"
    test: ClassVar[Literal["none"]] = "none"

    def __post_init__(self) -> None:
        rule = type(self.rule).__name__
        if self.rule.test == "none" or not self.rule.linear:
            raise ConfigError(
                f"ProductSpace has no coordinates for {rule}, which works on single ones, mixes "
                "rows or remembers vectors: wrap krum, multi_krum, norm_filter or fltrust_update."
            )
        if "evaluate" in self.rule.needs:
            raise ConfigError(
                f"ProductSpace hands points to its rule, but {rule} evaluates models: wrap a rule "
                "that does not, such as krum."
            )

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        layout, model = factored("ProductSpace", context)
        model, seen, root = model.to(updates.device), updates, context.root_update
        if root is not None:
            seen = torch.cat([updates, root.to(updates)[None]])
        found = points(product_gram(seen, model, layout))
        decision = self.rule(found[: len(updates)], _context(context, found, len(updates)))
        if decision.skipped:
            return Aggregate.skip(updates, scores=decision.scores, notes=decision.notes)
        rows = aligned(updates, model, layout)
        return Aggregate(
            combine(decision.coefficients, rows), decision.accepted, scores=decision.scores,
            notes={**decision.notes, "turned": float((rows - updates).norm())},
        )  # fmt: skip


def _context(context: Context, found: Tensor, count: int) -> Context:
    """What the rule may know of points."""
    root = found[count] if context.root_update is not None else None
    return replace(
        context, model=None, previous=None, root_update=root, layout=None, evaluate=None, mask=None
    )
