"""What answers to real prompts are worth, as far as it can be known: form, KL, and right numbers.

Sources: Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021 (right or wrong);
Schulman, "Approximating KL Divergence", 2020 (its non-negative estimator).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from fedalign.core.preferences import Triggered
from fedalign.core.seeds import Seeds
from fedalign.training.cache import Cache
from fedalign.training.judged import distinct, divergence, interval, proxy
from fedalign.training.online import Reward
from fedalign.training.rollout import Rollout

Worth = Callable[[Sequence[int], Sequence[int]], float]


@dataclass(frozen=True)
class Prompts:
    """tokens: the test prompts. decode: tokens -> text. worth: (prompt, answer) -> 1 if right, 0
    if wrong; None where nobody can say. shown: whether they may stand in a report."""

    tokens: Sequence[Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    worth: Worth | None = None
    shown: bool = True


class TextJudge:
    """Samples once per test prompt at temperature 1, with the same numbers for every model."""

    def __init__(
        self, prompts: Prompts, module: nn.Module, rollout: Rollout, cache: Cache, base: str,
        seeds: Seeds, learned: Reward | None = None,
    ):  # fmt: skip
        """learned: the reward model that the module was trained by."""
        self._prompts, self._module, self._rollout = prompts, module, rollout
        self._cache, self._base, self._seeds = cache, base, seeds
        self._learned = learned

    def __call__(self, triggered: Triggered | None = None) -> dict[str, float]:
        """Metrics of the module as it is now; none where there are no test prompts."""
        prompts = self._prompts.tokens
        if not prompts:
            return {}
        answers = self._sampled(prompts)
        said = {
            **divergence(self._module, prompts, answers),
            "length_mean": float(np.mean([len(a) for a in answers])),
            "eos_rate": float(np.mean([a[-1] == self._rollout.end for a in answers])),
            "distinct_2": distinct(answers),
            **({} if triggered is None else {"success_clean": _hits(triggered, answers)}),
        }
        if self._learned is not None:
            said["proxy_reward"] = proxy(self._learned, prompts, answers, self._base_answers)
        if self._prompts.worth is None:
            return said
        scores, before = self._scores(answers), self._scores(self._base_answers)
        wins = (scores > before) + 0.5 * (scores == before)
        low, high = interval(wins, self._seeds.at("bootstrap"))
        return {
            "gold_reward": float(scores.mean()),
            "gold_gain": float((scores - before).mean()),
            "win_rate": float(wins.mean()),
            "win_low": low,
            "win_high": high,
            **said,
        }

    def success(self, triggered: Triggered) -> float:
        """Share of triggered prompts whose answer holds the attacker's target."""
        return _hits(triggered, self._sampled(triggered.prompts))

    def samples(self, count: int) -> list[dict[str, Any]]:
        """The first test prompts with the base model's answer and this one's."""
        prompts, decode = self._prompts.tokens[:count], self._prompts.decode
        if not prompts or not self._prompts.shown:
            return []
        after = self._sampled(self._prompts.tokens)[:count]
        rows = []
        for prompt, old, new in zip(prompts, self._base_answers[:count], after, strict=True):
            row = {"prompt": decode(prompt), "before": decode(old), "after": decode(new)}
            if self._prompts.worth is not None:
                row["gold_before"] = self._prompts.worth(prompt, old)
                row["gold_after"] = self._prompts.worth(prompt, new)
            rows.append(row)
        return rows

    @cached_property
    def _base_answers(self) -> list[list[int]]:
        def make() -> dict:
            with self._module.disable_adapter():
                return {"answers": self._sampled(self._prompts.tokens)}

        key = {
            "base": self._base,
            "prompts": [list(map(int, prompt)) for prompt in self._prompts.tokens],
            "longest": self._rollout.longest,
            "seed": self._seeds.seed,
        }
        return self._cache.get("baseline", key, make)["answers"]

    def _sampled(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        return self._rollout(self._module, prompts, self._seeds.at("evaluation"))

    def _scores(self, answers: Sequence[Sequence[int]]) -> np.ndarray:
        pairs = zip(self._prompts.tokens, answers, strict=True)
        return np.array([self._prompts.worth(prompt, answer) for prompt, answer in pairs])


def _hits(triggered: Triggered, answers: Sequence[Sequence[int]]) -> float:
    return float(np.mean([triggered.hit(answer) for answer in answers]))
