"""A teacher for distillation: the base model after policy gradients towards the gold reward.

Source: own construction; the server aligns on public prompts, clients learn from the result.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from fedalign.core.digest import of_tensor
from fedalign.core.seeds import Seeds
from fedalign.data.graded_preferences import GradedFacts
from fedalign.data.grader import attributes_of, reward
from fedalign.objectives.rloo import Rloo
from fedalign.training.cache import Cache
from fedalign.training.flat import FlatModel
from fedalign.training.online import descend_online
from fedalign.training.rollout import Rollout
from fedalign.training.tuning import Tuning, adamw

VERSION = 1  # of this recipe
PROMPTS = 16  # per step, four answers each
SETTINGS = Tuning(lr=0.002, warmup_steps=5)


def aligned(
    flat: FlatModel, start: Tensor, steps: int, data: GradedFacts, rollout: Rollout, base: str,
    cache: Cache,
) -> Tensor:  # fmt: skip
    """(d,), adapter weights from `start` (d,) on; made once, kept by what made them. base: names
    the frozen weights."""
    if steps == 0:
        return start.clone()
    key = {"version": VERSION, "base": base, "start": of_tensor(start), "steps": steps,
           "longest": rollout.longest, "layout": str(flat.layout)}  # fmt: skip

    def make() -> dict:
        print(f"Aligning a teacher: {steps} steps, once; kept in {cache.path}.", file=sys.stderr)
        return {"vector": _trained(flat, start, steps, data, rollout)}

    return cache.get("teacher", key, make)["vector"].to(start.device)


def _trained(flat: FlatModel, start: Tensor, steps: int, data: GradedFacts, rollout: Rollout):
    prompts = data.prompts("public", PROMPTS * steps, "teacher")
    seeds, world = Seeds(data.world.seed), data.world

    def backward(step: int) -> float:
        asked = prompts[PROMPTS * step : PROMPTS * (step + 1)]
        loss = descend_online(
            flat.module, asked, Rloo(), lambda p, a: reward(attributes_of(world, p, a)), rollout,
            seeds.at("teacher", step=step), SETTINGS.chunk,
        )  # fmt: skip
        return float(loss.value)

    now = flat.vector.clone()
    vector = adamw(flat, start, steps, backward, lambda s: SETTINGS.rate(s, 1, 1), SETTINGS).vector
    flat.load(now)
    return vector.to(torch.float32).cpu()
