"""IA3: rescale keys, values and the inner activations of the MLP.

Paper: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
Learning", NeurIPS 2022, Section 3.3.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from fedalign.models.low_rank import targets_of


@dataclass(frozen=True)
class Rescaling:
    """scaled: linear layers whose outputs are rescaled. inner: those whose inputs are."""

    scaled: Sequence[str] = ("k_proj", "v_proj")
    inner: Sequence[str] = ("down_proj",)

    neutral = True
    lr_scale = 1.0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with scales of 1: only they require gradients."""
        import peft

        inner = targets_of(model, self.inner)
        config = peft.IA3Config(
            target_modules=[*targets_of(model, self.scaled), *inner],
            feedforward_modules=inner,
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return peft.get_peft_model(model, config)
