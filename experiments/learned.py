"""Learned: the reward model of a finished run, for objectives that climb it.

Papers: Ouyang et al., "Training language models to follow instructions with human feedback",
NeurIPS 2022, Section 3.5 (reward model, then policy); Gao et al., "Scaling Laws for Reward Model
Overoptimization", ICML 2023 (what climbing a learned reward does to the true one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.build import build
from experiments.run_folder import finished, load_yaml
from fedalign.core import memory
from fedalign.core.contracts import Workload
from fedalign.core.digest import of_data, of_tensor
from fedalign.core.errors import ConfigError
from fedalign.core.vectors import Layout
from fedalign.objectives.climber import Climber
from fedalign.training.online import Reward
from fedalign.workloads.clustered import Clustered
from fedalign.workloads.reward_model import RewardModel

Config = Mapping[str, Any]
SHOWN = 8


@dataclass(frozen=True)
class Learned:
    """reward: what a reward model says of answers. told: which one that is, for the log."""

    reward: Reward
    told: str


def learned(objective: Any, config: Config, opened: Callable[[Config], Workload]) -> Learned | None:
    """The objective's reward model, None where it has none. config: of the run that climbs
    it. opened: config -> workload. Raises ConfigError where the folder holds no such model,
    or one of another language."""
    if not isinstance(objective, Climber) or objective.reward_model is None:
        return None
    folder = _run(Path(objective.reward_model).expanduser())
    theirs = load_yaml(folder / "config.yaml")
    made = opened(theirs)
    several = isinstance(made, Clustered) and isinstance(made.single, RewardModel)
    if not several and not isinstance(made, RewardModel):
        raise ConfigError(
            f"objective.reward_model={folder} is a run of {_name(theirs)}, no reward model: give "
            "one of objective=reward_bradley_terry or another reward objective, as "
            "scenario=reward_models makes them."
        )
    if _language(theirs) != _language(config):
        raise ConfigError(
            f"objective.reward_model={folder} reads {_language(theirs)}, this run writes "
            f"{_language(config)}: the two need the same words."
        )
    saved = memory.read(folder / "payload.safetensors")
    if Layout.of({name: x.shape for name, x in saved.items()}) != made.layout:
        raise ConfigError(f"objective.reward_model={folder}: its payload fits no model of its own.")
    vector = made.layout.flatten(saved)
    told = f"reward model {_name(theirs)}, {of_tensor(vector)[:12]}"
    if not several:
        return Learned(made.reward(vector), told)
    vectors = [made.model(vector, k) for k in range(made.count)]
    return Learned(made.single.reward(*vectors), f"{made.count} votes of {told}")


def _run(folder: Path) -> Path:
    """The run of a folder, which may be a study that has one run only."""
    if finished(folder):
        return folder
    runs = sorted(path for path in folder.glob("*/") if finished(path))
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise ConfigError(
            f"objective.reward_model={folder} holds no finished run: give the folder of one, such as "
            "outputs/reward_models/RUN."
        )
    told = "; ".join(f"{run.name}: {_name(load_yaml(run / 'config.yaml'))}" for run in runs[:SHOWN])
    raise ConfigError(
        f"objective.reward_model={folder} holds {len(runs)} runs, give the folder of one of them "
        f"({told}{'; ...' if len(runs) > SHOWN else ''})."
    )


def _name(config: Config) -> str:
    objective = config.get("objective", {})
    kind = objective.get("_target_", "a classifier").rpartition(".")[2]
    form = f" ({objective['form']})" if "form" in objective else ""
    return f"{kind}{form}, seed {config['seed']}"


def _language(config: Config) -> str:
    """What decides the meaning of a token number."""
    if "world" in config["data"]:
        world = build(config["data"]["world"])
        return f"a world of {len(world.words)} words ({of_data(list(world.words))[:8]})"
    model = config["model"]
    return f"{model.get('name')} with prompts as {model.get('prompt_format')}"
