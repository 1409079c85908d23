"""A policy with a scorer beside it, a critic or a rater: one frozen base, two adapters, one vector.

Papers: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5 (critic); Dong et al., "SteerLM", Findings of EMNLP 2023 (rater).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy

from torch import Tensor, nn

from fedalign.models.scored import Pool, Scored


class Advised(nn.Module):
    """Calls go to the policy; `scorer` is asked by name. What both send has the prefix `policy.`
    or `scorer.`; the base's weights are there once."""

    def __init__(
        self, base: nn.Module, wrap: Callable[[nn.Module], nn.Module], outputs: int,
        pool: Pool = "last",
    ):  # fmt: skip
        """base: frozen. wrap: puts a new adapter on a model. outputs: scores per answer. pool: as
        of Scored."""
        super().__init__()
        hidden = base.get_input_embeddings().weight.shape[1]
        twin = deepcopy(base, {id(weight): weight for weight in base.parameters()})
        self.policy = wrap(base)
        self.scorer = Scored(wrap(twin), hidden, outputs, pool)

    def forward(self, *inputs: Tensor, **more: object) -> object:
        return self.policy(*inputs, **more)

    def disable_adapter(self) -> AbstractContextManager[None]:
        """The base model."""
        return self.policy.disable_adapter()
