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
from fedalign.models.causal_lm import CausalLm
from fedalign.objectives.kto import Kto
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.sft import Sft
from fedalign.training.loops import loop
from fedalign.training.online import Reward
from fedalign.training.rollout import Rollout
from fedalign.training.text_judge import Prompts, TextJudge
from fedalign.workloads.alignment import Alignment, Task
from fedalign.workloads.preference_holdings import Owners
from fedalign.workloads.text_holdings import TextHoldings


class TextAlignment(Alignment):
    """See fedalign.core.contracts.Workload; the task's data are TextPreferences, its model a
    CausalLm."""

    def _opened(self, task: Task) -> tuple[nn.Module, str]:
        if not isinstance(task.model, CausalLm):
            raise ConfigError(
                f"data={task.data.source.name} is text and needs a model with a tokenizer: take "
                "model=hf model.name=FOLDER_OR_NAME, or data=graded_facts for the tiny model."
            )
        module, self._writing, name = task.model.load()
        longest = getattr(module.config, "max_position_embeddings", None)
        most = task.data.max_tokens + task.data.answer_tokens
        if longest is not None and most > longest:
            raise ConfigError(
                f"data.max_tokens + data.answer_tokens is {most}, but {task.model.name} reads "
                f"{longest} tokens at most: lower them."
            )
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
            prompts, self._flat.module, self._roll, task.cache, self._base, self._seeds
        )
        left = "".join(f"; {n} rows: {why}" for why, n in sorted(found.skipped.items()) if n)
        self.source = (
            f"{data.source.name} ({', '.join(file.name for file in found.files)}{left}), "
            f"{task.model.name} (prompts {task.model.prompt_format}, base {self._base[:12]})"
        )
        return found

    def _require(self, found: TextHoldings) -> None:
        """An objective that the rows cannot serve is refused before any training."""
        data, objective = self._task.data, self._task.objective
        kind = type(objective).__name__
        if isinstance(objective, Rloo) and not data.source.checked:
            raise ConfigError(
                f"{kind} needs a reward and nobody knows what an answer of "
                f"data={data.source.name} is worth: take data=gsm8k, or objective=dpo."
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
        return lambda prompts, answers: np.array([
            self._worth(p, a) for p, a in zip(prompts, answers, strict=True)
        ])  # fmt: skip

    def _truths(self, client: int, pairs: Preferences) -> list[list[int]]:
        return pairs.chosen.completions()
