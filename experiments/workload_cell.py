"""The workload of a cell: which data, model and loss its clients have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from experiments import ranks
from experiments.build import build
from fedalign.algorithms.centralised import Centralised
from fedalign.algorithms.cluster import Cluster
from fedalign.algorithms.personal import PersonalPart
from fedalign.algorithms.posthoc_realign import PosthocRealign
from fedalign.algorithms.steer import Steer
from fedalign.core.contracts import Algorithm, DataAttack, Speaking, Workload
from fedalign.core.errors import ConfigError
from fedalign.core.personal import Personal
from fedalign.core.preferences import RatingAttack
from fedalign.core.seeds import Seeds
from fedalign.data.population_classes import PopulationClasses
from fedalign.training.deepspeed import Zero
from fedalign.training.sgd import Sgd
from fedalign.training.tuning import Tuning
from fedalign.workloads.classification import Classification, Holdings
from fedalign.workloads.clustered import Clustered, ClusteredSpeakers
from fedalign.workloads.kept_local import KeptLocal
from fedalign.workloads.population import PopulationClassification

Config = Mapping[str, Any]


def workload(config: Config, attackers: Sequence[int], attack: Any, device: str) -> Workload:
    """What the config's `workload` node asks for; attack: also poisons data, where it can."""
    settings, poisons = (
        build(config["workload"]),
        attack if isinstance(attack, DataAttack) else None,
    )
    if isinstance(settings, Tuning):
        shared = ranks.group(config, settings, attackers, device, ranked)
        return shared or _alignment(config, settings, attackers, poisons, device)
    if not isinstance(settings, Sgd):
        raise ConfigError(
            f"{type(settings).__name__} is no workload: take workload=classification."
        )
    partition = build(config["topology"]).place(build(config["partition"]))
    data, kind = build(config["data"]), Classification
    if isinstance(data, PopulationClasses):
        _check_partition(config)
        data, kind = data.load(config["clients"], config["seed"]), PopulationClassification
    else:
        data = data.load()
    return kind(
        data,
        Holdings(partition, config["clients"], attackers, poisons),
        build(config["model"]),
        settings,
        Seeds(config["seed"]),
        config["batching"],
        device,
        config["precision"],
    )


def ranked(config: Config, attackers: Sequence[int], device: str) -> Workload:
    """What every rank of a rank group holds."""
    attack, settings = build(config["attack"]), build(config["workload"])
    poisons = attack if isinstance(attack, DataAttack) else None
    return _alignment(config, settings, attackers, poisons, device, ranks.zero(config))


def divided(made: Workload, algorithm: Algorithm) -> Workload:
    """The workload as this algorithm sends it: several models in one vector, or without what stays
    at the clients."""
    several = isinstance(algorithm, Cluster)
    if not several and all(algorithm.shared(part.name) for part in made.layout.parts):
        return made
    if not isinstance(made, Personal):
        raise ConfigError(
            f"{type(algorithm).__name__} needs clients that judge models by their own pairs: take "
            "workload=alignment with a pair objective such as dpo."
        )
    if not several:
        return KeptLocal(made, algorithm.shared)
    kind = ClusteredSpeakers if isinstance(made, Speaking) else Clustered
    return kind(made, algorithm.count)


def _check_partition(config: Config) -> None:
    if config["partition"]["_target_"] != "fedalign.data.partition.iid.Iid":
        raise ConfigError(
            "data=population says itself whose data is whose (columns n_samples and topics): take "
            "partition=iid, and change data.attributes for another split."
        )


def _alignment(
    config: Config, settings: Tuning, attackers: Sequence[int], attack: Any, device: str,
    zero: Zero | None = None,
) -> Workload:  # fmt: skip
    from experiments.learned import learned
    from fedalign.data.text_preferences import TextPreferences
    from fedalign.models.with_local import WithLocal
    from fedalign.objectives.terms import RewardObjective
    from fedalign.training.loops import check_rounds
    from fedalign.workloads.alignment import Alignment, Task
    from fedalign.workloads.preference_holdings import Owners
    from fedalign.workloads.reward_model import RewardModel, RewardTask
    from fedalign.workloads.text_alignment import TextAlignment
    from fedalign.workloads.text_reward_model import TextRewardModel

    if "objective" not in config or "peft" not in config:
        raise ConfigError(
            "workload=alignment needs an objective and an adapter: take scenario=dpo and narrow it."
        )
    owners = Owners(build(config["partition"]), config["clients"], attackers, attack)
    objective, seeds = build(config["objective"]), Seeds(config["seed"])
    check_rounds(objective, config["rounds"])
    data, model, algorithm = (build(config[name]) for name in ("data", "model", "algorithm"))
    adapter = _adapter(config, data)
    if isinstance(algorithm, PersonalPart):
        adapter = WithLocal(adapter, algorithm.part)
    rest = (adapter, objective, settings.scaled(adapter.lr_scale), config["rounds"])
    _refuse(objective, algorithm, attack, settings)
    if isinstance(objective, RewardObjective):
        if config["precision"] != "float32":
            raise ConfigError("Reward models are trained in float32: take precision=float32.")
        kind = TextRewardModel if isinstance(data, TextPreferences) else RewardModel
        return kind(RewardTask(data, model, *rest), owners, seeds, device)
    kind = TextAlignment if isinstance(data, TextPreferences) else Alignment
    found = learned(objective, config, partial(_finished, device))
    task = Task(
        data, model, *rest, precision=config["precision"], zero=zero,
        reward=None if found is None else found.reward,
    )  # fmt: skip
    made = kind(task, owners, seeds, device)
    if found is not None:
        made.source += f"; {found.told}"
    return made


def _refuse(objective: Any, algorithm: Algorithm, attack: Any, settings: Tuning) -> None:
    """ConfigError where these parts of an alignment cannot work together."""
    from fedalign.objectives.rloo import Rloo
    from fedalign.objectives.terms import RewardObjective
    from fedalign.training.loops import loop, steered

    scores = isinstance(objective, RewardObjective)
    learns = objective.learns_ratings if scores else steered(objective)
    if isinstance(attack, RatingAttack) and not learns:
        raise ConfigError(
            f"{type(attack).__name__} lies in ratings, which {type(objective).__name__} never sees: "
            "take objective=reward_regression or objective=steerlm."
        )
    if scores and isinstance(algorithm, Centralised | Steer | PersonalPart):
        raise ConfigError(
            f"{type(algorithm).__name__} is made for models that answer and "
            f"{type(objective).__name__} trains one that judges: take algorithm=fedavg, local, "
            "cluster or fed_biscuit."
        )
    pairwise = not scores and loop(objective) is None and not isinstance(objective, Rloo)
    compares = pairwise and objective.reference == "sft"
    if isinstance(algorithm, PosthocRealign) and not compares:
        raise ConfigError(
            "algorithm=posthoc_realign goes with losses on pairs against the base model and "
            f"{type(objective).__name__} is none: take objective=dpo."
        )
    if settings.reference != "sft" and not compares:
        raise ConfigError(
            f"workload.reference={settings.reference} is for losses on pairs against a reference "
            f"and {type(objective).__name__} is none: take objective=dpo, or workload.reference=sft."
        )


def _finished(device: str, config: Config) -> Workload:
    """The workload of a run that is over, for what its model can say."""
    return divided(workload(config, (), None, device), build(config["algorithm"]))


def _adapter(config: Config, data: Any) -> Any:
    """The adapter, its words as token numbers."""
    from fedalign.data.conditioning import numbered
    from fedalign.data.graded_preferences import GradedFacts
    from fedalign.models.low_rank import LowRank

    adapter = build(config["peft"])
    if not isinstance(adapter, LowRank) or not adapter.words:
        return adapter
    world = data.world if isinstance(data, GradedFacts) else None
    return replace(adapter, words=numbered(world, adapter.words))
