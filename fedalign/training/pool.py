"""Unjudged pairs of answers: by the base model, kept on disk, or by the demonstrator."""

from __future__ import annotations

from torch import nn

from fedalign.core.seeds import Seeds
from fedalign.data.annotator import Pool
from fedalign.data.graded_preferences import GradedFacts, Split
from fedalign.training.cache import Cache
from fedalign.training.rollout import Rollout


def answered(
    data: GradedFacts, split: Split, count: int, module: nn.Module, rollout: Rollout, cache: Cache,
    base: str,
) -> Pool:  # fmt: skip
    """Two answers to each of `count` prompts of a split; pairs of equal answers fall away.

    module: has `disable_adapter`. base: names its frozen weights.
    """
    prompts = data.prompts(split, count, "pool")
    if data.answers == "demonstrator":
        first, second = (data.demonstrate(prompts, f"pool {split} {i}") for i in (1, 2))
        return Pool.of(data.world, prompts, first, second)
    rng = Seeds(data.world.seed)

    def make() -> dict:
        with module.disable_adapter():
            return {
                "answers": [
                    rollout(module, prompts, rng.at("answers", split=split, turn=i)) for i in (1, 2)
                ]
            }

    key = {"base": base, "split": split, "count": count, "longest": rollout.longest}
    return Pool.of(data.world, prompts, *cache.get("pool", key, make)["answers"])
