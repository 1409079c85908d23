"""Text alignment: clients tune a Hugging Face model's adapter on real preferences of their own.

The base model is a folder or a repository of the Hub and is never sent. Nobody knows the true
reward of real answers: reported are the loss and the accuracy of implicit rewards on held-out
pairs, KL and form of sampled answers, and the share of right ones where they can be checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from fedalign.core.errors import ConfigError
from fedalign.core.preferences import Preferences
from fedalign.data.text_preferences import TextPreferences
from fedalign.objectives.climber import Climber
from fedalign.objectives.kto import Kto
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.sft import Sft
from fedalign.training.loops import loop
from fedalign.training.online import Reward
from fedalign.training.rollout import Rollout
from fedalign.training.text_judge import Prompts, TextJudge
from fedalign.workloads.alignment import Alignment, Task
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.text_base import opened, told
from fedalign.workloads.text_holdings import TextHoldings


class TextAlignment(Alignment):
    """See fedalign.core.contracts.Workload; the task's data are TextPreferences, its model a
    CausalLm."""

    def _opened(self, task: Task) -> tuple[nn.Module, str]:
        module, self._writing, name = opened(task.model, task.data)
        return module, name

    def _prepared(self, owners: Owners) -> TextHoldings:
        task, writing = self._task, self._writing
        data: TextPreferences = task.data
        found = TextHoldings(data, writing, owners, self._seeds, self._device)
        self._require(found)
        self._truth = {prompt: truth for prompt, truth in found.truths.items() if truth is not None}
        self._roll = Rollout(writing.words, writing.end, data.answer_tokens, batch=32)
        worth = self._worth if data.source.checked else None
        prompts = Prompts(found.prompts, writing.text, worth, data.source.shown)
        self._judge = TextJudge(
            prompts, self._flat.module, self._roll, task.cache, self._base, self._seeds,
            task.reward,
        )  # fmt: skip
        self.source = told(task.model, data, found, self._base)
        return found

    def _require(self, found: TextHoldings) -> None:
        """An objective that the rows cannot serve is refused before any training."""
        data, objective = self._task.data, self._task.objective
        kind = type(objective).__name__
        if isinstance(objective, Rloo) and not data.source.checked and self._task.reward is None:
            raise ConfigError(
                f"{kind} needs a reward and nobody knows what an answer of "
                f"data={data.source.name} is worth: take data=gsm8k, objective=dpo, or "
                "reward_model=FOLDER, a finished run of objective=reward_bradley_terry."
            )
        if isinstance(objective, Climber) and objective.grouped:
            raise ConfigError(
                f"{kind}.groups={objective.groups} combines the values of groups of annotators and "
                f"data={data.source.name} has none: take groups=own, or data=graded_facts."
            )
        if loop(objective) is not None:
            raise ConfigError(
                f"{kind} needs the graded world of data=graded_facts: take objective=dpo or another "
                "loss on pairs here."
            )
        if found.single and not isinstance(objective, Sft | Rloo):
            raise ConfigError(
                f"{kind} compares two answers and data={data.source.name} holds one good answer "
                "per prompt: take objective=sft, or data=gsm8k_solutions for pairs."
            )
        if found.unpaired and not isinstance(objective, Kto):
            raise ConfigError(
                f"{kind} needs pairs and data={data.source.name} holds single answers, desirable "
                "or not: take objective=kto."
            )

    def _worth(self, prompt: Sequence[int], answer: Sequence[int]) -> float:
        """1 for an answer that ends with the right number, else 0."""
        truth = self._truth[tuple(prompt)]
        return float(self._task.data.source.right(self._writing.text(answer), truth))

    def _reward(self, client: int) -> Reward:
        if self._task.reward is not None:
            return self._task.reward
        return lambda prompts, answers: np.array([
            self._worth(p, a) for p, a in zip(prompts, answers, strict=True)
        ])  # fmt: skip

    def _truths(self, client: int, pairs: Preferences) -> list[list[int]]:
        return pairs.chosen.completions()
