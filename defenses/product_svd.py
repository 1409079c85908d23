"""Product SVD: average what adapters do to the weights, then cut the average back to its rank.

Paper: Bai et al., "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and
Client Resources" (FlexLoRA), NeurIPS 2024, Section 3 (average full products, then SVD).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from defenses._checks import factored
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.gauge import merged
from fedalign.core.wrapping import Wrapper


@dataclass(frozen=True)
class ProductSvd(Wrapper):
    """The rule decides on the rows as they are; its coefficients c then combine products: every
    pair of LoRA factors becomes the best one of its rank for B_0 A_0 + sum_i c_i (B_i A_i - B_0
    A_0), other tensors are combined as ever. The mean of products is no product of means: what
    plain averaging misses is the metric lora_cross_term.

    rule: any that answers with coefficients. A comes back as long as it was, and turned next to it.
    Needs `context.layout` and `context.model`.
    """

    rule: Defense

    linear: ClassVar[bool] = False  # of rows; of products it is

    def __post_init__(self) -> None:
        if not self.rule.linear:
            raise ConfigError(
                f"ProductSvd merges products with a rule's coefficients, and "
                f"{type(self.rule).__name__} has none: wrap fedavg, krum, multi_krum or "
                "norm_filter."
            )

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        layout, model = factored("ProductSvd", context)
        decision = self.rule(updates, context)
        if decision.skipped:
            return decision
        vector = merged(updates, model.to(updates.device), decision.coefficients, layout)
        return replace(decision, vector=vector, coefficients=None)
