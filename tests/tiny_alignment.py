"""A language model of a few thousand weights, a world of four entities: seconds, not minutes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")
pytest.importorskip("peft", reason="pip install 'fedalign[llm]'")

from fedalign.core.contracts import ClientTask, Work
from fedalign.core.seeds import Seeds
from fedalign.data.annotator import Annotator
from fedalign.data.graded_facts import World
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.partition.iid import Iid
from fedalign.models.low_rank import LowRank
from fedalign.models.tiny_lm import TinyLm
from fedalign.objectives.dpo import Dpo
from fedalign.training.cache import Cache
from fedalign.training.tuning import Tuning
from fedalign.workloads.alignment import Alignment, Task
from fedalign.workloads.preference_holdings import Owners

MODEL = TinyLm(vocabulary=96, hidden=32, layers=2, heads=2, mlp=64, teach_steps=60, teach_batch=32)


def world(**knobs) -> World:
    """Four entities, three attributes, four values; 88 words."""
    return World(entities=4, attributes=3, values=4, **knobs)


def data(pairs=60, **knobs) -> GradedFacts:
    """A few pairs per client."""
    annotator = knobs.pop("annotator", Annotator())
    return GradedFacts(
        knobs.pop("world", world()), annotator, demonstrations=800, pairs=pairs,
        evaluation=32, held_out=24, root_samples=12, **knobs,
    )  # fmt: skip


@cache
def folder() -> Path:
    """One cache for all tests of a process."""
    return Path(mkdtemp(prefix="fedalign-tests-"))


def alignment(
    objective=None, adapter=None, clients=3, attackers=(), attack=None, tuning=None, model=MODEL,
    seed=0, partition=None, **knobs,
) -> Alignment:  # fmt: skip
    """A workload of three clients with twenty pairs each; knobs: of `data`."""
    task = Task(
        data(**knobs), model, adapter or LowRank(rank=2), objective or Dpo(0.5),
        tuning or Tuning(batch_size=8, lr=0.005, warmup_steps=0), 2, Cache(str(folder())),
    )  # fmt: skip
    return Alignment(task, Owners(partition or Iid(), clients, attackers, attack), Seeds(seed))


def tasks(workload, clients, steps=3, round=1, vector=None, poisoned=False) -> list[ClientTask]:
    """One training task per client."""
    vector = workload.initial() if vector is None else vector
    return [
        ClientTask("train", c, round, vector, Work(steps=steps), poisoned=poisoned) for c in clients
    ]
