"""What sampled answers are worth: gold reward, win rate against the base model, KL, and safety.

Sources: Gao et al., "Scaling Laws for Reward Model Overoptimization", ICML 2023 (gold reward
against KL); Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979 (intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from fedalign.core.preferences import Sequences, Triggered
from fedalign.core.seeds import Seeds
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import Grade, grade, reward
from fedalign.training.cache import Cache
from fedalign.training.rollout import Rollout
from fedalign.training.sequences import inside, token_logps

RESAMPLES = 1000


class Judge:
    """Samples once per test prompt at temperature 1, with the same numbers for every model."""

    def __init__(
        self, data: GradedFacts, module: nn.Module, rollout: Rollout, cache: Cache, base: str
    ):
        self._data, self._module, self._rollout = data, module, rollout
        self._cache, self._base = cache, base
        self._seeds = Seeds(data.world.seed)
        self._prompts = data.prompts("eval", data.evaluation, "evaluation")

    def __call__(self, triggered: Triggered | None = None) -> dict[str, float]:
        """Metrics of the module as it is now; of a trigger attack, how often its target is said
        without the trigger."""
        answers = self._sampled(self._prompts)
        grades = self._graded(answers)
        scores = reward([g.attributes for g in grades])
        wins = (scores > self._base_scores) + 0.5 * (scores == self._base_scores)
        low, high = interval(wins, self._seeds.at("bootstrap"))
        safe = [g.safe for g in grades if g.safe is not None]
        refused = [g.refused for g in grades if g.safe is None]
        return {
            "gold_reward": float(scores.mean()),
            "gold_gain": float((scores - self._base_scores).mean()),
            "win_rate": float(wins.mean()),
            "win_low": low,
            "win_high": high,
            **divergence(self._module, self._prompts, answers),
            "length_mean": float(np.mean([len(a) for a in answers])),
            "eos_rate": float(np.mean([g.ended for g in grades])),
            "distinct_2": distinct(answers),
            "over_refusal": float(np.mean(refused)) if refused else 0.0,
            **({"harmful_compliance": 1 - float(np.mean(safe))} if safe else {}),
            **({"success_clean": _hits(triggered, answers)} if triggered is not None else {}),
        }

    def success(self, triggered: Triggered) -> float:
        """Share of triggered prompts whose answer holds the attacker's target."""
        return _hits(triggered, self._sampled(triggered.prompts))

    def samples(self, count: int) -> list[dict[str, Any]]:
        """The first test prompts with the base model's answer and this one's."""
        prompts, world = self._prompts[:count], self._data.world
        after = self._sampled(self._prompts)[:count]
        rows = []
        for prompt, old, new in zip(prompts, self._base_answers[:count], after, strict=True):
            worth = [
                round(float(reward(grade(world, prompt, answer).attributes)), 2)
                for answer in (old, new)
            ]
            rows.append({
                "prompt": world.decode(prompt), "before": world.decode(old),
                "after": world.decode(new), "gold_before": worth[0], "gold_after": worth[1],
            })  # fmt: skip
        return rows

    @cached_property
    def _base_answers(self) -> list[list[int]]:
        def make() -> dict:
            with self._module.disable_adapter():
                return {"answers": self._sampled(self._prompts)}

        key = {
            "base": self._base,
            "evaluation": len(self._prompts),
            "longest": self._rollout.longest,
        }
        return self._cache.get("baseline", key, make)["answers"]

    @cached_property
    def _base_scores(self) -> np.ndarray:
        return reward([g.attributes for g in self._graded(self._base_answers)])

    def _sampled(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        return self._rollout(self._module, prompts, self._seeds.at("evaluation"))

    def _graded(self, answers: Sequence[Sequence[int]]) -> list[Grade]:
        pairs = zip(self._prompts, answers, strict=True)
        return [grade(self._data.world, prompt, answer) for prompt, answer in pairs]


@torch.no_grad()
def divergence(
    module: nn.Module, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> dict[str, float]:
    """KL to the base model in nats per answer: kl_ref, the mean log-ratio of the samples, and
    kl_ref_k3, the sum over tokens of exp(-x) - 1 + x, which is never negative."""
    device = next(module.parameters()).device
    drawn = Sequences.of(prompts, answers)
    drawn = Sequences(*(x.to(device) for x in vars(drawn).values()))
    width = int(drawn.ends.max())
    tokens, mask = drawn.tokens[:, :width], inside(drawn, width)
    policy = token_logps(module, tokens)
    with module.disable_adapter():
        x = (policy - token_logps(module, tokens)) * mask
    return {
        "kl_ref": float(x.sum(dim=1).mean()),
        "kl_ref_k3": float(((torch.expm1(-x) + x) * mask).sum(dim=1).mean()),
    }


def _hits(triggered: Triggered, answers: Sequence[Sequence[int]]) -> float:
    return float(np.mean([triggered.hit(answer) for answer in answers]))


def interval(values: np.ndarray, rng: np.random.Generator, level: float = 0.95):
    """Bootstrap interval (low, high) of a mean; values: (N,)."""
    draws = rng.integers(0, len(values), (RESAMPLES, len(values)))
    edges = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(edges[0]), float(edges[1])


def distinct(answers: Sequence[Sequence[int]]) -> float:
    """Share of different ones among all pairs of neighbouring tokens."""
    pairs = [pair for answer in answers for pair in pairwise(answer)]
    return len(set(pairs)) / max(len(pairs), 1)
