"""Alignment: clients tune one shared language model's adapter on preferences of their own.

The base model is the taught one and is never sent; a payload is the adapter's trainable weights.
Reported: gold reward of sampled answers, their win rate against the base model's, KL to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedalign.core.contracts import (
    ROOT,
    ClientTask,
    Gradient,
    Memory,
    Updates,
)
from fedalign.core.errors import ConfigError
from fedalign.core.personal import PROBED
from fedalign.core.preferences import Preferences, Sequences
from fedalign.core.seeds import Seeds, seeded
from fedalign.data.graded_facts import World
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of
from fedalign.models.advised import Advised
from fedalign.models.causal_lm import CausalLm
from fedalign.models.forward import narrow, recomputing
from fedalign.models.low_rank import lora_size
from fedalign.models.tiny_lm import TinyLm
from fedalign.objectives.climber import Climber
from fedalign.objectives.conqord import Conqord
from fedalign.objectives.rloo import Rloo
from fedalign.objectives.terms import Loss, PairObjective
from fedalign.training.cache import Cache, Uncached
from fedalign.training.deepspeed import Partitioned, Zero
from fedalign.training.flat import FlatModel
from fedalign.training.judged import Judge
from fedalign.training.lesson import Lesson, Step
from fedalign.training.local_judge import LocalJudge
from fedalign.training.local_round import local_round
from fedalign.training.loops import loop, rate_scale, scorer, steered
from fedalign.training.online import Reward, descend_online, self_play
from fedalign.training.pair_terms import Batch, averaged, descend, terms
from fedalign.training.pool import answered
from fedalign.training.realigning import realigning
from fedalign.training.reference import as_it_is, check_agreement, kept_reference_logps
from fedalign.training.rollout import Rollout
from fedalign.training.sequences import check_packing, logps
from fedalign.training.sgd import batch_order
from fedalign.training.teach import taught
from fedalign.training.teacher import aligned
from fedalign.training.tuning import Tuning
from fedalign.workloads.client_pairs import ClientPairs, pooled, wanted
from fedalign.workloads.group_values import group_values
from fedalign.workloads.preference_holdings import TEST, Owners, PreferenceHoldings
from fedalign.workloads.ratings import rated


class Adapter(Protocol):
    """neutral: whether the untrained adapter changes nothing, so that first losses are those at the
    reference (ln 2 of DPO). lr_scale: multiplies the workload's learning rate."""

    neutral: bool
    lr_scale: float

    def wrap(self, model: nn.Module) -> nn.Module: ...


@dataclass(frozen=True)
class Task:
    """What is tuned, how, and on what. rounds: of the run, for the learning rate's schedule.
    precision: float32 or bfloat16, in which the base model multiplies. zero: how a rank group cuts
    the model, None: this process holds it alone. reward: what a learned reward model thinks, None:
    clients judge by their own values."""

    data: GradedFacts
    model: TinyLm | CausalLm
    adapter: Adapter
    objective: PairObjective | Rloo | Any  # Any: of fedalign/training/loops.py
    tuning: Tuning
    rounds: int = 1
    cache: Cache = Cache()
    precision: str = "float32"
    zero: Zero | None = None
    reward: Reward | None = None


class Alignment:
    """See fedalign.core.contracts.Workload. device: a torch device."""

    _local: LocalJudge | None = None
    _world: World | None = None

    def __init__(self, task: Task, owners: Owners, seeds: Seeds, device: str = "cpu"):
        self._task, self._seeds, self._device = task, seeds, torch.device(device)
        base, self._base = self._opened(task)
        narrow(base, task.precision, self._device)
        self._lora_bytes = 4.0 * lora_size(base, task.adapter)
        with seeded(int.from_bytes(seeds.key("initial_model")[:7], "big")):
            made = self._wrapped(base).eval()
            self._flat = (
                FlatModel(made, self._device)
                if task.zero is None
                else task.zero.hold(made, self._device, task.tuning)
            )
        if task.zero is not None:
            self._task = replace(task, cache=Uncached())
        self.layout = self._flat.layout
        self._initial = self._flat.vector.cpu().clone()
        if task.tuning.packing is not None:
            check_packing(self._flat.module)
        holdings = self._prepared(owners)
        self._held, self._triggered = holdings.pairs, holdings.triggered
        self._values, self.clients = holdings.values, holdings.clients
        self._pairs = ClientPairs(self._held, self._values, self._world)
        self._known: dict[Hashable, Tensor] = {}
        self._checked = not task.adapter.neutral or task.objective.reference != "sft"
        if not task.adapter.neutral:
            self.source += "; the adapter does not start neutral, first losses are not ln 2"

    def _wrapped(self, base: nn.Module) -> nn.Module:
        """With its adapter; where the objective has a critic or rater, that one beside it."""
        beside = scorer(self._task.objective)
        if beside is None:
            return self._task.adapter.wrap(base)
        return Advised(base, self._task.adapter.wrap, *beside)

    def _opened(self, task: Task) -> tuple[nn.Module, str]:
        """The frozen base model, and what names its weights."""
        return taught(task.model, task.data, task.cache, self._device)

    def _prepared(self, owners: Owners) -> PreferenceHoldings:
        """Who holds which pairs; also sets how answers are sampled, judged and called."""
        task = self._task
        self._roll = Rollout(len(task.data.world.words), 2)
        self._judge = Judge(
            task.data, self._flat.module, self._roll, task.cache, self._base,
            steered(task.objective), isinstance(task.objective, Conqord), task.reward,
        )  # fmt: skip
        if task.data.local_evaluation:
            self._local = LocalJudge(
                task.data, self._flat.module, self._roll, task.cache, self._base
            )
        self._world = task.data.world
        self.source = f"graded_facts (base {self._base[:12]})"
        return PreferenceHoldings(
            task.data, owners, self._seeds, self._device, partial(
                answered, task.data, module=self._flat.module, rollout=self._roll,
                cache=task.cache, base=self._base,
            )
        )  # fmt: skip

    def _reference(self, key: Hashable, pairs: Preferences) -> Tensor:
        """(N, 2), once per client and process; on disk for the next run."""
        if key not in self._known:
            both = Sequences.concatenate([pairs.chosen, pairs.rejected])
            task, packing = self._task, self._task.tuning.packing
            found = kept_reference_logps(
                self._flat.module, self._base, both, task.cache, task.precision,
                64 if packing is None else task.tuning.passes,
            )  # fmt: skip
            self._known[key] = found.view(2, -1).T.contiguous()
        return self._known[key]

    # ------------------------------------------------------------ the contract

    @property
    def splits(self) -> frozenset[str]:
        """What `evaluate` can be asked for."""
        more = {"triggered"} if self._triggered is not None else set()
        return frozenset({"server", "test"} | more)

    @property
    def judges(self) -> bool:
        """Whether clients are asked what the model is worth to them."""
        return self._local is not None

    def initial(self) -> Tensor:
        """(d,), the untrained adapter; depends on the seed only."""
        return self._initial.clone()

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """One client after the other through the one model; rows are trained minus received."""
        rows, found, after = [], [], []
        for task, memory in zip(tasks, memories, strict=True):
            row, metrics, kept = self._client(task, memory, correct)
            rows.append(row)
            found.append(metrics)
            after.append(kept)
        updates = Updates(
            clients=torch.tensor([task.client for task in tasks]),
            rows=torch.stack(rows).cpu(),
            samples=torch.tensor([len(self._held[t.client, t.poisoned]) for t in tasks]),
            metrics={name: torch.tensor([m[name] for m in found]) for name in found[0]},
        )
        return updates, after

    def _client(self, task: ClientTask, memory: Memory, correct: Gradient | None):
        """One client's row, metrics and memory."""
        tuning, (_, pairs) = self._task.tuning, self._pairs(task)
        start = task.vector.to(self._device)
        rng = self._seeds.at("batch_order", round=task.round, client=task.client)
        width = tuning.batch_size * len(pooled(task))
        order, lengths = batch_order(len(pairs), task.work, width, rng)
        state = {"seed": int(rng.integers(2**31)), **memory.get("objective", {})}
        metrics: list[Mapping[str, float]] = []
        before = (task.round - 1) * len(order)
        self._flat.load(start)
        step_of = self._steps(task, pairs, start)

        def backward(step: int) -> float:
            nonlocal state
            rows = torch.from_numpy(order[step, : lengths[step]]).to(self._device)
            loss = step_of(step, rows, state)
            state = loss.memory
            metrics.append(loss.metrics)
            return float(loss.value)

        row, loss, memory = local_round(
            self._flat, task, memory, len(order), backward,
            partial(self._rate, task.round, before), tuning, correct,
        )  # fmt: skip
        kept = {**memory, "objective": dict(state)} if state else memory
        return row, {"train_loss": loss, **averaged(metrics)}, kept

    def _rate(self, round: int, before: int, step: int) -> float:
        """The learning rate of a client's local step in a round."""
        task = self._task
        scale = rate_scale(task.objective, round, task.rounds)
        return scale * task.tuning.rate(before + step, round, task.rounds)

    def _steps(self, task: ClientTask, pairs: Preferences, start: Tensor) -> Step:
        """What one step does: (step, rows of the client's data, memory) -> Loss, .grad filled."""
        module, tuning, objective = self._flat.module, self._task.tuning, self._task.objective
        address = {"round": task.round, "client": task.client}
        if "realign" in task.extra:
            lesson, how = self._lesson(task, pairs, start), task.extra["realign"].tolist()
            return realigning(lesson, self._pairs.ordinary(task), *how)
        if (begin := loop(objective)) is not None:
            return begin(self._lesson(task, pairs, start))
        if isinstance(objective, Rloo):
            prompts, reward = pairs.chosen.prompts(), self._reward(task.client)
            return lambda step, rows, memory: descend_online(
                module, [prompts[i] for i in rows.tolist()], objective, reward, self._roll,
                self._seeds.at("rollout", step=step, **address), tuning.chunk,
            )  # fmt: skip
        if objective.reference == "iterate":
            truths = self._truths(task.client, pairs)
            rng = self._seeds.at("self_play", **address)
            pairs, reference = self_play(module, pairs, truths, self._roll, rng)
        elif objective.reference == "none":
            reference = torch.zeros(len(pairs), 2, device=self._device)
        elif tuning.reference == "round_start":
            reference = as_it_is(module, pairs, tuning.passes)
        else:
            reference = self._reference(*self._pairs(task))

        def descend_pairs(step: int, rows: Tensor, memory: Memory) -> Loss:
            batch = Batch(pairs.take(rows), reference[rows])
            self._check(batch, start)
            with recomputing(module, tuning.recompute):
                how = (objective, memory, tuning.passes, tuning.micro_batch)
                if isinstance(self._flat, Partitioned):
                    return self._flat.descend(batch, *how)
                return descend(module, batch, *how)

        return descend_pairs

    def _lesson(self, task: ClientTask, pairs: Preferences, start: Tensor) -> Lesson:
        asked, data = self._task, self._task.data
        return Lesson(
            self._flat, data, pairs, asked.objective, asked.tuning, self._roll,
            self._reward(task.client),
            lambda: rated(data, pairs, self._seeds, task.client, task.poisoned),
            lambda: self._truths(task.client, pairs), self._teacher, start, self._seeds,
            task.client, task.round, asked.rounds,
        )  # fmt: skip

    def _teacher(self) -> Tensor:
        """(d,), what a distilled model learns from; kept on disk."""
        task = self._task
        return aligned(
            self._flat, self._initial, task.objective.teacher_steps, task.data, self._roll,
            self._base, task.cache,
        )  # fmt: skip

    def _truths(self, client: int, pairs: Preferences) -> list[list[int]]:
        """The data's own answers to a client's prompts, for self-play."""
        return self._task.data.demonstrate(pairs.chosen.prompts(), f"truth {client}")

    def _reward(self, client: int) -> Reward:
        """What a client thinks answers are worth, or a learned model or all groups, for all."""
        if self._task.reward is not None:
            return self._task.reward
        if isinstance(self._task.objective, Climber) and self._task.objective.grouped:
            return group_values(self._task.data, self._task.objective, self._held[ROOT, False])
        world, annotator = self._task.data.world, self._task.data.annotator
        weights = self._values(client)
        return lambda prompts, answers: annotator.worth(
            world, answers, attributes_of(world, prompts, answers), weights
        )

    @torch.no_grad()
    def losses(self, tasks: Sequence[ClientTask]) -> Tensor:
        """(n,), each on the first pairs of the client's own."""
        objective, found = self._task.objective, []
        if loop(objective) is not None or isinstance(objective, Rloo) or objective.mismatched:
            raise ConfigError(
                f"Clusters are chosen by a loss on pairs and {type(objective).__name__} has none: "
                "take objective=dpo."
            )
        for task in tasks:
            self._flat.load(task.vector.to(self._device))
            key, pairs = self._pairs(task)
            rows = torch.arange(min(PROBED, len(pairs)), device=self._device)
            batch = Batch(pairs.take(rows), self._reference(key, pairs)[rows])
            both = Sequences.concatenate([batch.pairs.chosen, batch.pairs.rejected])
            found.append(objective(terms(batch, logps(self._flat.module, both)), {}).value)
        return torch.stack(found).cpu()

    def judge(self, tasks: Sequence[ClientTask], memories: Sequence[Memory]) -> Updates:
        """Each vector by its client's own values; see fedalign.core.personal."""
        found = []
        for task in tasks:
            self._flat.load(task.vector.to(self._device))
            weights = self._values(task.client)
            found.append(self._local(weights, wanted(weights) if "steer" in task.extra else {}))
        return Updates(
            torch.tensor([task.client for task in tasks]),
            torch.zeros(len(tasks), 0),
            torch.tensor([len(self._held[task.client, False]) for task in tasks]),
            metrics={name: torch.tensor([f[name] for f in found]) for name in found[0]},
        )

    def _check(self, batch: Batch, start: Tensor) -> None:
        """Once, on the first batch that starts from the untrained adapter."""
        if self._checked or not torch.equal(start, self._initial):
            return
        self._checked = True
        both = Sequences.concatenate([batch.pairs.chosen, batch.pairs.rejected])
        with torch.no_grad():
            policy = logps(self._flat.module, both, self._task.tuning.passes)
        check_agreement(
            policy, batch.reference.T.flatten(), "First local step", self._task.precision
        )

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """test: loss and accuracy of implicit rewards on held-out pairs, and the judge's metrics of
        sampled answers. server: the first two on the server's pairs. triggered: accuracy, the share
        of triggered prompts whose answer is the attacker's."""
        if split not in self.splits:
            raise ConfigError(
                f"This workload has no split '{split}', it has {sorted(self.splits)}."
            )
        self._flat.load(vector.to(self._device))
        if split == "triggered":
            return {"accuracy": self._judge.success(self._triggered)}
        if split == "server":
            return self._implicit(ROOT)
        payload = {"payload_bytes": 4.0 * self.layout.size, "lora_bytes": self._lora_bytes}
        return {**self._implicit(TEST), **self._judge(self._triggered), **payload}

    @torch.no_grad()
    def _implicit(self, owner: int) -> dict[str, float]:
        pairs = self._held[owner, False]
        both = Sequences.concatenate([pairs.chosen, pairs.rejected])
        reference = self._reference((owner, False), pairs)
        found = terms(Batch(pairs, reference), logps(self._flat.module, both))
        objective, loss = self._task.objective, None
        plain = loop(objective) is None and not isinstance(objective, Rloo)
        if plain and not objective.mismatched:
            loss = objective(found, {})
        gap, gold = found.gap, pairs.scores[:, 0] - pairs.scores[:, 1]
        agree = (gap * gold > 0).double() + 0.5 * ((gap == 0) | (gold == 0))
        value = float("nan") if loss is None else float(loss.value)
        return {"accuracy": float(agree.mean()), "loss": value}

    def samples(self, vector: Tensor, count: int = 8) -> list[dict[str, Any]]:
        """Answers of the base model and of this one to the same test prompts, with gold rewards."""
        self._flat.load(vector.to(self._device))
        return self._judge.samples(count)
