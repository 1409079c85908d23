"""Reward models: clients learn to score answers from preferences or from ratings of their own.

Papers: Wang et al., "HelpSteer2-Preference: Complementing Ratings with Preferences", 2024; Wu et
al., "Towards Federated RLHF with Aggregated Client Preference for LLMs", ICLR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isnan

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.contracts import ClientTask, Gradient, Memory, Updates
from fedalign.core.errors import ClientError, ConfigError
from fedalign.core.preferences import Sequences
from fedalign.core.seeds import Seeds, seeded
from fedalign.data.annotator import Annotator
from fedalign.data.graded_facts import ATTRIBUTES, WEIGHTS
from fedalign.data.graded_preferences import GradedFacts
from fedalign.models.scored import Scored
from fedalign.models.tiny_lm import TinyLm
from fedalign.objectives.reward_bradley_terry import RewardBradleyTerry
from fedalign.objectives.reward_combined import RewardCombined
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.terms import Loss
from fedalign.training.cache import Cache
from fedalign.training.flat import FlatModel
from fedalign.training.online import Reward
from fedalign.training.pair_terms import averaged
from fedalign.training.pool import answered
from fedalign.training.rollout import Rollout
from fedalign.training.sgd import batch_order
from fedalign.training.teach import taught
from fedalign.training.tuning import FailedStep, Tuning, adamw
from fedalign.workloads.alignment import Adapter
from fedalign.workloads.preference_holdings import TEST, Owners, PreferenceHoldings, moved
from fedalign.workloads.ratings import rated


@dataclass(frozen=True)
class RewardTask:
    """What is tuned, how, and on what. rounds: of the run, for the learning rate's schedule."""

    data: GradedFacts
    model: TinyLm
    adapter: Adapter
    objective: RewardBradleyTerry | RewardRegression | RewardCombined
    tuning: Tuning
    rounds: int = 1
    cache: Cache = Cache()


class RewardModel:
    """See fedalign.core.contracts.Workload. Bradley-Terry models have one output, regressions one
    per attribute, which the gold weights turn into a reward. device: a torch device."""

    def __init__(self, task: RewardTask, owners: Owners, seeds: Seeds, device: str = "cpu"):
        self._task, self._seeds, self._device = task, seeds, torch.device(device)
        self._rates = isinstance(task.objective, RewardRegression)
        base, self._base = self._opened(task)
        with seeded(int.from_bytes(seeds.key("initial_model")[:7], "big")):
            body = task.adapter.wrap(base).eval()
            outputs = len(ATTRIBUTES) if self._rates else 1
            self._flat = FlatModel(
                Scored(
                    body, base.get_input_embeddings().weight.shape[1], outputs, task.objective.pool
                ),
                self._device,
            )
        self.layout, self._initial = self._flat.layout, self._flat.vector.cpu().clone()
        holdings = self._prepared(owners, body)
        self._held, self.clients = holdings.pairs, holdings.clients
        self._triggered = holdings.triggered
        self.splits = frozenset({"test", "server"} | ({"triggered"} if self._triggered else set()))
        needed = self._rates or isinstance(task.objective, RewardCombined)
        self._ratings = self._rated(holdings) if needed else {}
        self._ceiling = self._bayes()

    def _opened(self, task: RewardTask) -> tuple[nn.Module, str]:
        """The frozen base model, and what names its weights."""
        return taught(task.model, task.data, task.cache, self._device)

    def _prepared(self, owners: Owners, body: nn.Module) -> PreferenceHoldings:
        """Who holds which pairs; also says where they come from, and what attributes are worth."""
        task, self._weights = self._task, WEIGHTS
        self.source = f"graded_facts (base {self._base[:12]})"
        pool = partial(
            answered, task.data, module=body, rollout=Rollout(len(task.data.world.words), 2),
            cache=task.cache, base=self._base,
        )  # fmt: skip
        return PreferenceHoldings(task.data, owners, self._seeds, self._device, pool)

    def _rated(self, holdings: PreferenceHoldings) -> dict[tuple[int, bool], Tensor]:
        """(2, N, A) per owner, what raters think of both answers."""
        data, pairs = self._task.data, holdings.pairs
        return {key: rated(data, held, self._seeds, *key) for key, held in pairs.items()}

    def initial(self) -> Tensor:
        """(d,), the untrained adapter and a head of zeros; depends on the seed only."""
        return self._initial.clone()

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """One client after the other; rows are trained minus received."""
        done = [self._client(task, correct) for task in tasks]
        updates = Updates(
            clients=torch.tensor([task.client for task in tasks]),
            rows=torch.stack([row for row, _ in done]).cpu(),
            samples=torch.tensor([len(self._held[t.client, t.poisoned]) for t in tasks]),
            metrics={k: torch.tensor([m[k] for _, m in done]) for k in done[0][1]},
        )
        return updates, memories

    def _client(self, task: ClientTask, correct: Gradient | None):
        tuning, key = self._task.tuning, (task.client, task.poisoned)
        start, rng = (
            task.vector.to(self._device),
            self._seeds.at("batch_order", round=task.round, client=task.client),
        )
        order, lengths = batch_order(len(self._held[key]), task.work, tuning.batch_size, rng)
        metrics: list[Mapping[str, float]] = []
        before = (task.round - 1) * len(order)

        def backward(step: int) -> float:
            rows = torch.from_numpy(order[step, : lengths[step]]).to(self._device)
            loss = self._loss(key, rows, task.round)
            loss.value.backward()
            metrics.append(loss.metrics)
            return float(loss.value.detach())

        try:
            vector, loss = adamw(
                self._flat, start, len(order), backward,
                lambda step: tuning.rate(before + step, task.round, self._task.rounds),
                tuning, correct,
            )  # fmt: skip
        except FailedStep as error:
            raise ClientError(
                client=task.client, round=task.round, phase=task.step, reason=str(error)
            ) from error
        return vector - start, {"train_loss": loss, **averaged(metrics)}

    def _loss(self, key: tuple[int, bool], rows: Tensor, round: int | None = None) -> Loss:
        """round: of the run, None after the last."""
        pairs, objective = self._held[key].take(rows), self._task.objective
        found = self._scores(pairs.chosen, pairs.rejected)
        if self._rates:
            return objective(found.flatten(0, 1), self._ratings[key][:, rows].flatten(0, 1))
        if isinstance(objective, RewardCombined) and round is not None and objective.rates(round):
            helpful = self._ratings[key][:, rows, :1]
            loss = objective.rated(found.flatten(0, 1), helpful.flatten(0, 1))
            return replace(loss, metrics={})
        return objective(found[0, :, 0], found[1, :, 0], pairs.strength)

    def _scores(self, *sides: Sequences) -> Tensor:
        """(sides, N, A), the model's outputs for so many answers each, with gradient."""
        both = Sequences.concatenate(sides)
        order, found = both.ends.argsort(stable=True), []
        for rows in order.split(self._task.tuning.chunk):
            part = both.take(rows)
            tokens = part.tokens[:, : int(part.ends.max())]
            found.append(self._flat.module(tokens, part.starts, part.ends))
        return torch.cat(found)[order.argsort()].view(len(sides), len(sides[0]), -1)

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """accuracy: of the order of two answers by gold reward, ties one half. test adds
        rm_accuracy (the same), rm_accuracy_label, bayes_ceiling, rm_attr_mae, success_clean.
        triggered: accuracy, the share of pairs where an attacker's words put in front of the worse
        answer make it the better one; success_clean is that without the prompt's trigger."""
        if split not in self.splits:
            raise ConfigError(
                f"This workload has no split '{split}', it has {sorted(self.splits)}."
            )
        self._flat.load(vector.to(self._device))
        if split == "triggered":
            return {"accuracy": self._success(self._triggered.prompts)}
        owner = TEST if split == "test" else TEST + 1
        pairs = self._held[owner, False]
        with torch.no_grad():
            loss = self._loss((owner, False), torch.arange(len(pairs), device=self._device))
            outputs = self._scores(pairs.chosen, pairs.rejected)
        gap = self._worth(outputs[0]) - self._worth(outputs[1])
        gold = pairs.scores[:, 0] - pairs.scores[:, 1]
        right = {"accuracy": _agreement(gap, gold), "loss": float(loss.value)}
        if split == "server":
            return right
        clean = pairs.chosen.prompts()
        return {
            **right,
            **({} if self._triggered is None else {"success_clean": self._success(clean)}),
            "rm_accuracy": right["accuracy"],
            "rm_accuracy_label": _agreement(gap, torch.ones_like(gap)),
            "bayes_ceiling": self._ceiling,
            "payload_bytes": 4.0 * self.layout.size,
            **{k: v for k, v in loss.metrics.items() if k == "rm_attr_mae"},
        }

    def _worth(self, outputs: Tensor) -> Tensor:
        """(N, A) -> (N,), one reward."""
        return outputs @ torch.tensor(self._weights if self._rates else (1.0,)).to(outputs)

    @torch.no_grad()
    def _success(self, prompts: Sequence[Sequence[int]]) -> float:
        """Share of test pairs where the attacker's words win for the worse answer."""
        pairs, words = self._held[TEST, False], list(self._triggered.target)
        better, worse = pairs.chosen.completions(), pairs.rejected.completions()
        sides = (better, [[*words, *answer] for answer in worse])
        rows = (moved(Sequences.of(prompts, side), self._device) for side in sides)
        good, bad = (self._worth(outputs) for outputs in self._scores(*rows))
        return _agreement(bad - good, torch.ones_like(good))

    @torch.no_grad()
    def reward(self, vector: Tensor) -> Reward:
        """What the model (d,) thinks answers are worth, for objectives that climb it: shifted and
        scaled to the mean and spread that gold rewards of the test pairs have, or to 0 and 1 where
        nobody knows these. The workload is used up: it holds this model from now on."""
        self._flat.load(vector.to(self._device))
        pairs = self._held[TEST, False]
        raw = self._worth(self._scores(pairs.chosen, pairs.rejected).flatten(0, 1)).double()
        known = not isnan(self._ceiling)
        spread = float(pairs.scores.double().std()) if known else 1.0
        middle = float(pairs.scores.double().mean()) if known else 0.0
        scale = spread / max(float(raw.std()), 1e-12)
        shift = middle - scale * float(raw.mean())

        @torch.no_grad()
        def worth(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> np.ndarray:
            rows = moved(Sequences.of(prompts, answers), self._device)
            return (self._worth(self._scores(rows)[0]).double() * scale + shift).cpu().numpy()

        return worth

    def _bayes(self) -> float:
        """E max(P, 1 - P) of the labels of the test pairs."""
        scores = self._held[TEST, False].scores.double().cpu().numpy()
        clean = Annotator(self._task.data.annotator.temperature)
        chance = clean.probability(scores[:, 0], scores[:, 1])
        return float(np.maximum(chance, 1 - chance).mean())


def _agreement(gap: Tensor, truth: Tensor) -> float:
    """Share of equal signs; a tie on either side counts one half."""
    right = (gap * truth > 0).double() + 0.5 * ((gap == 0) | (truth == 0))
    return float(right.mean())
