"""What every rank of the DeepSpeed tests builds: one workload per ZeRO stage."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from fedalign.core.seeds import Seeds
from fedalign.data.partition.iid import Iid
from fedalign.models.low_rank import LowRank
from fedalign.objectives.dr_dpo import DrDpo
from fedalign.training.cache import Cache
from fedalign.training.deepspeed import Zero
from fedalign.training.tuning import Tuning
from fedalign.workloads.alignment import Alignment, Task
from fedalign.workloads.preference_holdings import Owners
from tests import tiny_alignment


class Stages:
    """A task of round r is trained at stage r; a loss of the whole batch, so that ranks must meet."""

    def __init__(self, stages, folder: str):
        self.made = {stage: alignment(Zero(stage, 2), folder) for stage in stages}
        first = self.made[stages[0]]
        self.layout, self.clients, self.source = first.layout, first.clients, first.source
        self.splits, self.initial = first.splits, first.initial

    def train(self, tasks, memories):
        return self.made[tasks[0].round].train(tasks, memories)

    def evaluate(self, vector, split):
        return self.made[max(self.made)].evaluate(vector, split)


def build(stages, folder: str, device: str) -> Stages:
    return Stages(stages, folder)


def factory(stages, folder: str):
    return partial(build, stages, folder)


def alignment(zero, folder: str) -> Alignment:
    """Batches of five: ten sequences, five per rank; then a short batch."""
    task = Task(
        replace(tiny_alignment.data(answers="demonstrator"), evaluation=8), tiny_alignment.MODEL,
        LowRank(rank=2), DrDpo(0.5, 0.5), Tuning(batch_size=7, lr=0.01, warmup_steps=0),
        9, Cache(folder), zero=zero,
    )  # fmt: skip
    torch.manual_seed(0)
    return Alignment(task, Owners(Iid(), 2), Seeds(0))
