"""Text reward model: a Hugging Face model's body learns to score real answers, from pairs or ratings.

Papers: Wang et al., "HelpSteer2: Open-source dataset for training top-performing reward models",
2024; Bai et al., "Training a Helpful and Harmless Assistant with Reinforcement Learning from Human
Feedback", 2022.
"""

from __future__ import annotations

from torch import Tensor, nn

from fedalign.core.errors import ConfigError
from fedalign.data.help_steer import HelpSteer
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.reward_model import RewardModel, RewardTask
from fedalign.workloads.text_base import opened, told
from fedalign.workloads.text_holdings import TextHoldings


class TextRewardModel(RewardModel):
    """See fedalign.core.contracts.Workload; the task's data are TextPreferences, its model a
    CausalLm. Accuracy is that of the order people gave; nobody knows the best possible one."""

    def _opened(self, task: RewardTask) -> tuple[nn.Module, str]:
        module, self._writing, name = opened(task.model, task.data)
        return module, name

    def _prepared(self, owners: Owners, body: nn.Module) -> TextHoldings:
        task, source = self._task, self._task.data.source
        found = TextHoldings(task.data, self._writing, owners, self._seeds, self._device)
        if found.single or found.unpaired:
            raise ConfigError(
                f"A reward model compares two answers and data={source.name} holds single ones: "
                "take data=hh_rlhf or another set of pairs."
            )
        self._weights = source.weights if isinstance(source, HelpSteer) else ()
        self.source = told(task.model, task.data, found, self._base)
        return found

    def _rated(self, holdings: TextHoldings) -> dict[tuple[int, bool], Tensor]:
        if not self._task.data.source.attributes:
            raise ConfigError(
                f"{type(self._task.objective).__name__} learns ratings and "
                f"data={self._task.data.source.name} has none: take data=helpsteer2, or "
                "objective=reward_bradley_terry."
            )
        return holdings.ratings

    def _bayes(self) -> float:
        return float("nan")
