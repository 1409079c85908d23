"""Ranks: a cell whose model several processes hold together, and what that rules out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from experiments.build import build
from fedalign.algorithms.posthoc_realign import PosthocRealign
from fedalign.core.contracts import Workload
from fedalign.core.errors import ConfigError
from fedalign.federation.runtimes.rank_group import RankGroup
from fedalign.training import deepspeed
from fedalign.training.deepspeed import Zero
from fedalign.training.tuning import Tuning

Config = Mapping[str, Any]
_INLINE = "fedalign.federation.runtimes.inline.Inline"


def zero(config: Config) -> Zero | None:
    """How the config's rank group cuts the model; None where one process holds it."""
    made = build(config.get("deepspeed"))
    return made if isinstance(made, Zero) else None


def group(
    config: Config, tuning: Tuning, attackers: Sequence[int], device: str,
    factory: Callable[[Config, Sequence[int], str], Workload],
) -> RankGroup | None:  # fmt: skip
    """The rank group that plays this cell's clients, None where none was asked for. factory:
    (config, attackers, device) -> what a rank holds; importable."""
    made = zero(config)
    if made is None:
        return None
    _refuse(config, tuning, made)
    devices = [device]
    if device.startswith("cuda"):
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if made.processes > len(devices):
            raise ConfigError(
                f"deepspeed.processes={made.processes} needs as many GPUs, torch sees "
                f"{len(devices)}."
            )
    return RankGroup(
        partial(factory, dict(config), tuple(attackers)), deepspeed.join, deepspeed.leave,
        made.processes, devices, config["threads"],
    )  # fmt: skip


def _refuse(config: Config, tuning: Tuning, made: Zero) -> None:
    from fedalign.objectives.rloo import Rloo
    from fedalign.training.loops import loop

    objective = build(config["objective"])
    if isinstance(objective, Rloo) or loop(objective) is not None or not _on_pairs(objective):
        raise ConfigError(
            f"deepspeed=zero shares losses on pairs among ranks and {type(objective).__name__} is "
            "none: take objective=dpo or another one of that kind, or deepspeed=none."
        )
    if isinstance(build(config["algorithm"]), PosthocRealign):
        raise ConfigError(
            "algorithm=posthoc_realign compares with the merged model in between, which ranks hold in "
            "parts: take algorithm=fedavg, or deepspeed=none."
        )
    if config["runtime"]["_target_"] != _INLINE:
        raise ConfigError(
            "deepspeed=zero starts a rank group of its own: take runtime=inline, or deepspeed=none."
        )
    if tuning.moments == "kept":
        raise ConfigError(
            "workload.moments=kept stores a client's moments, which ranks hold in parts: take "
            "workload.moments=anew, or deepspeed=none."
        )
    if made.stage == 3 and tuning.packing is not None:
        raise ConfigError(
            "deepspeed.stage=3 needs all ranks to call the model equally often, which packed rows "
            "do not: take workload.packing=null, or deepspeed.stage=2."
        )


def _on_pairs(objective: Any) -> bool:
    from fedalign.objectives.terms import RewardObjective

    return not isinstance(objective, RewardObjective)
