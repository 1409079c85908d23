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
from scipy.stats import spearmanr
from torch import Tensor, nn

from fedalign.core.preferences import Sequences, Triggered
from fedalign.core.seeds import Seeds
from fedalign.data.conditioning import BEST, conditioned, labels
from fedalign.data.graded_facts import ATTRIBUTES, WEIGHTS
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import Grade, attributes_of, grade, reward
from fedalign.objectives.conqord import brier, calibration_error
from fedalign.training.cache import Cache
from fedalign.training.online import Reward
from fedalign.training.rollout import Rollout
from fedalign.training.sequences import inside, token_logps

RESAMPLES = 1000


def proxy(
    learned: Reward,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    base: Sequence[Sequence[int]],
) -> float:
    """The mean of what a learned model thinks answers are worth, with the base model's answers
    beside them for one that only compares."""
    return float(learned([*prompts, *prompts], [*answers, *base])[: len(prompts)].mean())


class Judge:
    """Samples once per test prompt at temperature 1, with the same numbers for every model."""

    def __init__(
        self, data: GradedFacts, module: nn.Module, rollout: Rollout, cache: Cache, base: str,
        steered: bool = False, confident: bool = False, learned: Reward | None = None,
    ):  # fmt: skip
        """steered: the module is asked for the best answer, and for others to see what it obeys.
        confident: it states a confidence. learned: the reward model that it was trained by."""
        self._data, self._module, self._rollout = data, module, rollout
        self._cache, self._base = cache, base
        self._steered, self._confident, self._learned = steered, confident, learned
        self._until = data.world.numbers["conf"] if confident else None
        self._seeds = Seeds(data.world.seed)
        self._prompts = data.prompts("eval", data.evaluation, "evaluation")
        best = BEST if steered else {}
        self._asked = [conditioned(data.world, prompt, best) for prompt in self._prompts]

    def __call__(self, triggered: Triggered | None = None) -> dict[str, float]:
        """Metrics of the module as it is now; of a trigger attack, how often its target is said
        without the trigger, in answers to what need not be refused."""
        answers = self._sampled(self._asked)
        grades = self._graded(answers)
        scores = reward([g.attributes for g in grades])
        wins = (scores > self._base_scores) + 0.5 * (scores == self._base_scores)
        low, high = interval(wins, self._seeds.at("bootstrap"))
        safe = [g.safe for g in grades if g.safe is not None]
        refused = [g.refused for g in grades if g.safe is None]
        open_answers = [a for a, g in zip(answers, grades, strict=True) if g.safe is None]
        return {
            "gold_reward": float(scores.mean()),
            "gold_gain": float((scores - self._base_scores).mean()),
            "win_rate": float(wins.mean()),
            "win_low": low,
            "win_high": high,
            **divergence(self._module, self._prompts, answers, self._asked, self._until),
            "length_mean": float(np.mean([len(a) for a in answers])),
            "eos_rate": float(np.mean([g.ended for g in grades])),
            "distinct_2": distinct(answers),
            "over_refusal": float(np.mean(refused)) if refused else 0.0,
            **({"proxy_reward": self._proxy(answers)} if self._biased else {}),
            **({"harmful_compliance": 1 - float(np.mean(safe))} if safe else {}),
            **({} if triggered is None else {"success_clean": _hits(triggered, open_answers)}),
            **(self._obedience() if self._steered else {}),
            **(calibration(grades) if self._confident else {}),
        }

    def success(self, triggered: Triggered) -> float:
        """Share of triggered prompts whose answer holds the attacker's target."""
        return _hits(triggered, self._sampled(triggered.prompts))

    def samples(self, count: int) -> list[dict[str, Any]]:
        """The first test prompts with the base model's answer and this one's."""
        prompts, world = self._prompts[:count], self._data.world
        after = self._sampled(self._asked)[:count]
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

    @property
    def _biased(self) -> bool:
        annotator = self._data.annotator
        return self._learned is not None or bool(annotator.length_bias or annotator.filler_bias)

    def _proxy(self, answers: Sequence[Sequence[int]]) -> float:
        """What a learned reward model thinks, or annotators with the gold weights and biases."""
        if self._learned is not None:
            return proxy(self._learned, self._prompts, answers, self._base_answers)
        world = self._data.world
        attributes = attributes_of(world, self._prompts, answers)
        return float(self._data.annotator.worth(world, answers, attributes, WEIGHTS).mean())

    def _graded(self, answers: Sequence[Sequence[int]]) -> list[Grade]:
        pairs = zip(self._prompts, answers, strict=True)
        return [grade(self._data.world, prompt, answer) for prompt, answer in pairs]

    def _obedience(self) -> dict[str, float]:
        """How near graded attributes come to those asked for, which a demonstrator's answer to the
        same prompt has had; attr_control_base: the same distance of the base model's answers."""
        world, prompts = self._data.world, self._prompts
        wanted = self._graded(self._data.demonstrate(prompts, "targets"))
        goals = np.array([grade.attributes for grade in wanted], dtype=np.float64)
        asked = [conditioned(world, p, a) for p, a in zip(prompts, labels(goals), strict=True)]
        rng = self._seeds.at("obedience")
        found, base = (
            np.array([grade.attributes for grade in self._graded(answers)], dtype=np.float64)
            for answers in (self._rollout(self._module, asked, rng), self._base_answers)
        )
        errors = np.abs(found - goals)
        return {
            "attr_control_mae": float(errors.mean()),
            "attr_control_base": float(np.abs(base - goals).mean()),
            "attr_exact": float((errors == 0).all(axis=1).mean()),
            **{f"control_{n}": float(e) for n, e in zip(ATTRIBUTES, errors.mean(0), strict=True)},
        }


def divergence(
    module: nn.Module, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]],
    asked: Sequence[Sequence[int]] | None = None, until: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """KL to the base model in nats per answer: kl_ref, the mean log-ratio of the samples, and
    kl_ref_k3, the sum over tokens of exp(-x) - 1 + x, which is never negative.

    asked: the module's own prompts, where they are not the base model's. until: a token that, with
    what follows it, is no part of the answer."""
    x = _said(module, prompts if asked is None else asked, answers)
    with module.disable_adapter():
        x = x - _said(module, prompts, answers)
    if until is not None:
        for i, answer in enumerate(map(list, answers)):
            x[i, answer.index(until) if until in answer else len(answer) :] = 0
    return {
        "kl_ref": float(x.sum(dim=1).mean()),
        "kl_ref_k3": float((torch.expm1(-x) + x).sum(dim=1).mean()),
    }


@torch.no_grad()
def _said(
    module: nn.Module, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Tensor:
    """(N, longest answer), log-probabilities of the answers' tokens, 0 behind their ends."""
    device = next(module.parameters()).device
    drawn = Sequences.of(prompts, answers)
    drawn = Sequences(*(x.to(device) for x in vars(drawn).values()))
    width, longest = int(drawn.ends.max()), int(drawn.lengths.max())
    found = token_logps(module, drawn.tokens[:, :width]) * inside(drawn, width)
    found = torch.nn.functional.pad(found, (0, longest))
    place = drawn.starts[:, None] - 1 + torch.arange(longest, device=device)
    return found.gather(1, place)


def calibration(grades: Sequence[Grade]) -> dict[str, float]:
    """Of the answers that state a confidence: ECE and Brier score against being all correct, rank
    correlation with gold reward, the mean confidence; of all answers: how many state one. NaN
    where fewer than two do, or where all state the same."""
    stated = [g for g in grades if g.confidence is not None]
    share = {"confidence_stated": len(stated) / max(len(grades), 1)}
    if len(stated) < 2:
        names = ("ece", "brier", "spearman_conf", "confidence_mean", "correct_rate")
        return {**share, **dict.fromkeys(names, float("nan"))}
    said = torch.tensor([g.confidence for g in stated], dtype=torch.float64)
    right = torch.tensor([float(g.attributes[1] == 4) for g in stated], dtype=torch.float64)
    worth = reward([g.attributes for g in stated])
    varied = len(set(said.tolist())) > 1 and len(set(worth.tolist())) > 1
    return {
        **share,
        "ece": calibration_error(said, right),
        "brier": brier(said, right),
        "spearman_conf": float(spearmanr(said.numpy(), worth).statistic) if varied else np.nan,
        "confidence_mean": float(said.mean()),
        "correct_rate": float(right.mean()),
    }


def _hits(triggered: Triggered, answers: Sequence[Sequence[int]]) -> float:
    return float(np.mean([triggered.hit(answer) for answer in answers])) if answers else 0.0


def interval(values: np.ndarray, rng: np.random.Generator, level: float = 0.95):
    """Bootstrap interval (low, high) of a mean; values: (N,)."""
    draws = rng.integers(0, len(values), (RESAMPLES, len(values)))
    edges = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(edges[0]), float(edges[1])


def distinct(answers: Sequence[Sequence[int]]) -> float:
    """Share of different ones among all pairs of neighbouring tokens."""
    pairs = [pair for answer in answers for pair in pairwise(answer)]
    return len(set(pairs)) / max(len(pairs), 1)
