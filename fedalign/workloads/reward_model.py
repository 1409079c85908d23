"""Reward models: clients learn to score answers from preferences or from ratings of their own.

Papers: Wang et al., "HelpSteer2-Preference: Complementing Ratings with Preferences", 2024; Wu et
al., "Towards Federated RLHF with Aggregated Client Preference for LLMs", ICLR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import isnan

import numpy as np
import torch
from torch import Tensor, nn

from fedalign.core.contracts import ClientTask, Gradient, Memory, Updates
from fedalign.core.digest import of_tensor
from fedalign.core.errors import ConfigError
from fedalign.core.personal import PROBED
from fedalign.core.preferences import Preferences, Sequences
from fedalign.core.seeds import Seeds, seeded
from fedalign.data.annotator import Annotator
from fedalign.data.graded_facts import ATTRIBUTES, WEIGHTS
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of
from fedalign.models.scored import Scored
from fedalign.models.tiny_lm import TinyLm
from fedalign.objectives.reward_combined import RewardCombined
from fedalign.objectives.reward_regression import RewardRegression
from fedalign.objectives.terms import Loss, RewardObjective
from fedalign.training.cache import Cache
from fedalign.training.flat import FlatModel
from fedalign.training.local_round import local_round
from fedalign.training.online import Reward
from fedalign.training.pair_terms import averaged
from fedalign.training.pool import answered
from fedalign.training.rollout import Rollout
from fedalign.training.scoring import Scoring, agreement, tournament
from fedalign.training.sgd import batch_order
from fedalign.training.teach import taught
from fedalign.training.tuning import Tuning
from fedalign.workloads.alignment import Adapter
from fedalign.workloads.preference_holdings import TEST, Owners, PreferenceHoldings
from fedalign.workloads.ratings import rated

KEPT = 18  # models whose opinions of the test pairs are remembered: two rounds of nine


@dataclass(frozen=True)
class RewardTask:
    """What is tuned, how, and on what. rounds: of the run, for the learning rate's schedule."""

    data: GradedFacts
    model: TinyLm
    adapter: Adapter
    objective: RewardObjective
    tuning: Tuning
    rounds: int = 1
    cache: Cache = Cache()


class RewardModel:
    """See fedalign.core.contracts.Workload and fedalign.core.personal. Bradley-Terry models have one
    output, regressions one per attribute, which the gold weights turn into a reward; selectors say
    of two answers which is better. device: a torch device."""

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
        objective = task.objective
        self._scoring = Scoring(
            self._flat.module, objective.jointly, self._weights if self._rates else (1.0,),
            task.tuning.chunk,
        )  # fmt: skip
        self._gaps: dict[str, Tensor] = {}
        self._triggered = holdings.triggered
        self.splits = frozenset({"test", "server"} | ({"triggered"} if self._triggered else set()))
        self._values = holdings.values
        self._ratings = self._rated(holdings) if objective.learns_ratings else {}
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

    @property
    def judges(self) -> bool:
        """Whether clients are asked what the model is worth to them."""
        data = self._task.data
        return isinstance(data, GradedFacts) and bool(data.local_evaluation)

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
        pairs = zip(tasks, memories, strict=True)
        done = [self._client(task, memory, correct) for task, memory in pairs]
        updates = Updates(
            clients=torch.tensor([task.client for task in tasks]),
            rows=torch.stack([row for row, *_ in done]).cpu(),
            samples=torch.tensor([len(self._held[t.client, t.poisoned]) for t in tasks]),
            metrics={k: torch.tensor([m[k] for _, m, _ in done]) for k in done[0][1]},
        )
        return updates, [memory for *_, memory in done]

    def _client(self, task: ClientTask, memory: Memory, correct: Gradient | None):
        """One client's row, metrics and memory."""
        tuning, key = self._task.tuning, (task.client, task.poisoned)
        rng = self._seeds.at("batch_order", round=task.round, client=task.client)
        order, lengths = batch_order(len(self._held[key]), task.work, tuning.batch_size, rng)
        metrics: list[Mapping[str, float]] = []
        before = (task.round - 1) * len(order)

        def backward(step: int) -> float:
            rows = torch.from_numpy(order[step, : lengths[step]]).to(self._device)
            loss = self._loss(key, rows, task.round)
            loss.value.backward()
            metrics.append(loss.metrics)
            return float(loss.value.detach())

        row, loss, memory = local_round(
            self._flat, task, memory, len(order), backward,
            lambda step: tuning.rate(before + step, task.round, self._task.rounds),
            tuning, correct,
        )  # fmt: skip
        return row, {"train_loss": loss, **averaged(metrics)}, memory

    def _loss(self, key: tuple[int, bool], rows: Tensor, round: int | None = None) -> Loss:
        """round: of the run, None after the last."""
        pairs, objective = self._held[key].take(rows), self._task.objective
        if objective.jointly:
            return self._selected(key, pairs, rows, round)
        found = self._scoring.scores(pairs.chosen, pairs.rejected)
        if self._rates:
            return objective(found.flatten(0, 1), self._ratings[key][:, rows].flatten(0, 1))
        if isinstance(objective, RewardCombined) and round is not None and objective.rates(round):
            helpful = self._ratings[key][:, rows, :1]
            loss = objective.rated(found.flatten(0, 1), helpful.flatten(0, 1))
            return replace(loss, metrics={})
        return objective(found[0, :, 0], found[1, :, 0], pairs.strength)

    def _selected(
        self, key: tuple[int, bool], pairs: Preferences, rows: Tensor, round: int
    ) -> Loss:
        """With the two answers of a pair in the order that they have in this round."""
        rng = self._seeds.at("order_of_answers", round=round, client=key[0])
        drawn = torch.from_numpy(rng.random(len(self._held[key])) < 0.5)
        first = drawn.to(self._device)[rows]
        asked = pairs.swap(~first)
        return self._task.objective(self._scoring.between(asked.chosen, asked.rejected), first)

    @torch.no_grad()
    def losses(self, tasks: Sequence[ClientTask]) -> Tensor:
        """(n,), each on the first pairs of the client's own."""
        found = []
        for task in tasks:
            self._flat.load(task.vector.to(self._device))
            key = (task.client, task.poisoned)
            rows = torch.arange(min(PROBED, len(self._held[key])), device=self._device)
            found.append(self._loss(key, rows, task.round).value)
        return torch.stack(found).cpu()

    @torch.no_grad()
    def judge(self, tasks: Sequence[ClientTask], memories: Sequence[Memory]) -> Updates:
        """rm_accuracy_local: of the order that each client's own values give to test pairs, as many
        as `data.local_evaluation`; see fedalign.core.personal."""
        found = [self._agreement(self._on_test(t.vector), self._values(t.client)) for t in tasks]
        return Updates(
            torch.tensor([task.client for task in tasks]),
            torch.zeros(len(tasks), 0),
            torch.tensor([len(self._held[task.client, False]) for task in tasks]),
            metrics={"rm_accuracy_local": torch.tensor(found)},
        )

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """accuracy: of the order of two answers by gold reward, ties one half. test adds
        rm_accuracy (the same), rm_accuracy_label, rm_accuracy_mean, bayes_ceiling, rm_attr_mae,
        success_clean. A selector is asked both ways round. triggered: accuracy, the share of pairs
        where an attacker's words put in front of the worse answer make it the better one;
        success_clean is that without the prompt's trigger."""
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
            if split == "test":
                gap = self._on_test(vector)
            else:
                gap = self._scoring.gap(pairs.chosen, pairs.rejected)
            if self._task.objective.jointly:
                loss = self._task.objective(gap, torch.ones_like(gap, dtype=torch.bool))
            else:
                loss = self._loss((owner, False), torch.arange(len(pairs), device=self._device))
        gold = pairs.scores[:, 0] - pairs.scores[:, 1]
        right = {"accuracy": agreement(gap, gold), "loss": float(loss.value)}
        if split == "server":
            return right
        clean = pairs.chosen.prompts()
        return {
            **right,
            **({} if self._triggered is None else {"success_clean": self._success(clean)}),
            "rm_accuracy": right["accuracy"],
            "rm_accuracy_label": agreement(gap, torch.ones_like(gap)),
            **self._of_all(gap),
            "bayes_ceiling": self._ceiling,
            "payload_bytes": 4.0 * self.layout.size,
            **{k: v for k, v in loss.metrics.items() if k == "rm_attr_mae"},
        }

    @torch.no_grad()
    def _success(self, prompts: Sequence[Sequence[int]]) -> float:
        """Share of test pairs where the attacker's words win for the worse answer."""
        pairs, words = self._held[TEST, False], list(self._triggered.target)
        better, worse = pairs.chosen.completions(), pairs.rejected.completions()
        sides = ([[*words, *answer] for answer in worse], better)
        gap = self._scoring.gap(*(Sequences.of(prompts, s).to(self._device) for s in sides))
        return agreement(gap, torch.ones_like(gap))

    @torch.no_grad()
    def voted(self, vectors: Sequence[Tensor]) -> dict[str, float]:
        """accuracy, rm_accuracy and rm_accuracy_label of the majority of several models."""
        pairs = self._held[TEST, False]
        votes = torch.stack([self._on_test(vector).sign() for vector in vectors]).sum(dim=0)
        right = agreement(votes, pairs.scores[:, 0] - pairs.scores[:, 1])
        return {
            "accuracy": right,
            "rm_accuracy": right,
            "rm_accuracy_label": agreement(votes, torch.ones_like(votes)),
            **self._of_all(votes),
        }

    def _of_all(self, gap: Tensor) -> dict[str, float]:
        """rm_accuracy_mean: of the order by the mean of all clients' values, where clients judge."""
        if not self.judges:
            return {}
        values = np.mean([self._values(client.id) for client in self.clients], axis=0)
        return {"rm_accuracy_mean": self._agreement(gap, values)}

    def _agreement(self, gap: Tensor, values: np.ndarray) -> float:
        """Of the gap on the test pairs that clients judge with the order by such values (5,)."""
        data = self._task.data
        one, other = (
            torch.from_numpy(data.annotator.worth(data.world, answers, graded, values))
            for answers, graded in self._graded
        )
        return agreement(gap[: len(one)].cpu(), one - other)

    @torch.no_grad()
    def _votes(self, vectors: Sequence[Tensor], one: Sequences, other: Sequences) -> Tensor:
        """See fedalign.training.scoring.Votes."""
        votes = torch.zeros(len(one), device=self._device)
        for vector in vectors:
            self._flat.load(vector.to(self._device))
            votes += self._scoring.gap(one, other).sign()
        return votes

    @torch.no_grad()
    def reward(self, *vectors: Tensor) -> Reward:
        """What the model (d,) thinks answers are worth, for objectives that climb it: shifted and
        scaled to the mean and spread that gold rewards of the test pairs have, or to 0 and 1 where
        nobody knows these. The workload is used up: it holds this model from now on. A selector, or
        several models, which vote, score no answer alone: see `tournament`."""
        if self._task.objective.jointly or len(vectors) > 1:
            votes = partial(self._votes, vectors)
            return partial(tournament, votes, len(vectors), self._device)
        self._flat.load(vectors[0].to(self._device))
        pairs = self._held[TEST, False]
        raw = self._scored(pairs.chosen, pairs.rejected)
        known = not isnan(self._ceiling)
        spread = float(pairs.scores.double().std()) if known else 1.0
        middle = float(pairs.scores.double().mean()) if known else 0.0
        scale = spread / max(float(raw.std()), 1e-12)
        shift = middle - scale * float(raw.mean())

        @torch.no_grad()
        def worth(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> np.ndarray:
            rows = Sequences.of(prompts, answers).to(self._device)
            return (self._scored(rows) * scale + shift).cpu().numpy()

        return worth

    def _scored(self, *sides: Sequences) -> Tensor:
        """(sides N,), float64, what answers are worth to the model as it is now."""
        return self._scoring.worth(self._scoring.scores(*sides).flatten(0, 1)).double()

    @torch.no_grad()
    def _on_test(self, vector: Tensor) -> Tensor:
        """(N,), how much better the chosen answer of every test pair is; the last models' are
        kept, since evaluation, votes and clients ask for the same ones."""
        key = of_tensor(vector)
        if key not in self._gaps:
            self._flat.load(vector.to(self._device))
            pairs = self._held[TEST, False]
            gap = self._scoring.gap(pairs.chosen, pairs.rejected)
            self._gaps = dict([*self._gaps.items(), (key, gap)][-KEPT:])
        return self._gaps[key]

    @cached_property
    def _graded(self) -> list[tuple[list[list[int]], np.ndarray]]:
        """Chosen and rejected answers of the test pairs that clients judge, with attributes."""
        held = self._held[TEST, False]
        pairs = held.take(torch.arange(min(self._task.data.local_evaluation, len(held))))
        prompts, sides = pairs.chosen.prompts(), (pairs.chosen, pairs.rejected)
        answers = [side.completions() for side in sides]
        return [(a, attributes_of(self._task.data.world, prompts, a)) for a in answers]

    def _bayes(self) -> float:
        """E max(P, 1 - P) of the labels of the test pairs."""
        scores = self._held[TEST, False].scores.double().cpu().numpy()
        clean = Annotator(self._task.data.annotator.temperature)
        chance = clean.probability(scores[:, 0], scores[:, 1])
        return float(np.maximum(chance, 1 - chance).mean())
