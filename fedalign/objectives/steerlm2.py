"""SteerLM 2.0: pull the conditioned model to P(answer | attributes) by weighted samples.

Paper: Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models",
NeurIPS 2024, Section 4.3 and Appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import betainc
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.steerlm import Stage, Steered
from fedalign.objectives.terms import Loss, positive

_EDGES = (0.0, 0.125, 0.375, 0.625, 0.875, 1.0)  # rounding cells of 0 .. 4 on the unit interval


@dataclass(frozen=True)
class SteerLm2(Steered):
    """Minimises KL(P(y|a,x) || Q(y|a,x)) with n samples of an earlier Q', by self-normalised
    weights w (target) and b (present model).

    concentration: nu > 0 of the Beta around a regression's prediction, see `attribute_masses`.
    weighted_rounds: >= 1, the last rounds of a run, which follow this objective after those of
    attribute-conditioned fine-tuning. answers: n >= 2 samples per prompt of the model that a round
    begins with. weighted_rate: > 0, multiplies the learning rate in these rounds: weights compare a
    prompt's samples with each other and say nothing of what Q' never said, to which a model that
    leaves Q' quickly drifts. rating_rounds, dropout, quality, annotate, pool: as of Steered.
    """

    concentration: float = 16.0
    weighted_rounds: int = 2
    answers: int = 10
    weighted_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, concentration=self.concentration, weighted_rate=self.weighted_rate)
        if self.weighted_rounds < 1 or self.answers < 2:
            raise ConfigError(
                "SteerLm2 needs weighted_rounds >= 1 and answers >= 2, got "
                f"{self.weighted_rounds} and {self.answers}."
            )

    def stage(self, round: int, rounds: int) -> Stage:
        """What round 1 .. rounds does."""
        return self._stage(round, rounds, "weigh", self.weighted_rounds)

    def rate(self, round: int, rounds: int) -> float:
        """What multiplies the learning rate in round 1 .. rounds."""
        return self.weighted_rate if self.stage(round, rounds) == "weigh" else 1.0

    def __call__(
        self, attribute: Tensor, prior: Tensor, sampled: Tensor, policy: Tensor, tokens: Tensor
    ) -> Loss:
        """All (P, n): log P(a|x,y), log P(y|x), log Q'(y|a,x), log Q(y|a,x) with gradient, tokens.
        value: sum_i (w_i - b_i) NLL_i / mean length, averaged over prompts. Items: w - b."""
        if policy.shape[-1] < 2:
            raise ConfigError(
                f"SteerLm2 weighs at least 2 samples per prompt, got {policy.shape[-1]}."
            )
        w = torch.softmax(attribute + prior - sampled, dim=-1)
        b = torch.softmax(policy.detach() - sampled, dim=-1)
        loss = ((w - b) * -policy).sum(dim=-1) / tokens.to(policy.dtype).mean(dim=-1)
        distance = (w * (w.clamp(min=1e-38).log() - b.clamp(min=1e-38).log())).sum(dim=-1)
        return Loss(loss.mean(), w - b, {"weight_kl": float(distance.mean())})

    def attribute_masses(self, prediction: float) -> Tensor:
        """(5,), P(score = 0 .. 4) of a Beta with mean prediction / 4, integrated over rounding
        cells; predictions are clipped to [.08, 3.92]."""
        middle = min(max(prediction, 0.08), 3.92) / 4
        a, b = middle * self.concentration, (1 - middle) * self.concentration
        below = torch.tensor([float(betainc(a, b, edge)) for edge in _EDGES], dtype=torch.float64)
        return below.diff()
