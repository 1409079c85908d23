"""What sampled answers are worth to one client: its own values, against the base model's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from torch import nn

from fedalign.core.seeds import Seeds
from fedalign.data.conditioning import conditioned
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of
from fedalign.training.cache import Cache
from fedalign.training.rollout import Rollout


class LocalJudge:
    """The first `data.local_evaluation` test prompts, sampled once at temperature 1, with the same
    numbers for every client and model."""

    def __init__(
        self, data: GradedFacts, module: nn.Module, rollout: Rollout, cache: Cache, base: str
    ):
        self._data, self._module, self._rollout = data, module, rollout
        self._cache, self._base = cache, base
        self._seeds = Seeds(data.world.seed)
        self._prompts = data.prompts("eval", data.local_evaluation, "evaluation")

    def __call__(self, weights: np.ndarray, goal: Mapping[str, int]) -> dict[str, float]:
        """weights: (5,), the client's. goal: scores asked for behind every question, or none."""
        asked = [conditioned(self._data.world, prompt, goal) for prompt in self._prompts]
        own, base = self._worth(self._sampled(asked), weights), self._worth(self._before, weights)
        wins = (own > base) + 0.5 * (own == base)
        return {
            "gold_reward_local": float(own.mean()),
            "gold_gain_local": float((own - base).mean()),
            "win_rate_local": float(wins.mean()),
        }

    @cached_property
    def _before(self) -> list[list[int]]:
        def make() -> dict:
            with self._module.disable_adapter():
                return {"answers": self._sampled(self._prompts)}

        key = {"base": self._base, "local": len(self._prompts), "longest": self._rollout.longest}
        return self._cache.get("baseline", key, make)["answers"]

    def _sampled(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        return self._rollout(self._module, prompts, self._seeds.at("local_evaluation"))

    def _worth(self, answers: Sequence[Sequence[int]], weights: np.ndarray) -> np.ndarray:
        world = self._data.world
        found = attributes_of(world, self._prompts, answers)
        return self._data.annotator.worth(world, answers, found, weights)
