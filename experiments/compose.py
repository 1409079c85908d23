"""From words on the command line to the cells of a study, without touching torch.

Sweeps (`seed=0,1,2`) become axes. Every axis value is composed once by Hydra; a cell is merged
from these nodes, so that composing costs per axis and not per cell.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from experiments import catalogue
from fedalign.core.digest import of_data
from fedalign.core.errors import ConfigError, UnknownNameError

FEDERATION = "experiments.federation_cell.play"  # the cell function of most scenarios
STUDY_KEYS = ("title", "grid", "presets", "report", "cell", "scenario")
SAME = "same"  # global_defense=same: what the group it takes its options from has
NOT_IDENTITY = (
    "runtime", "workers", "output_root", "keep", "reuse", "preset", "checkpoint_s", "jitter_s",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One run: what varies, the resolved config, a name that is the hash of the latter, and which
    option each group took, by name."""

    run_id: str
    axes: Mapping[str, str]
    config: Mapping[str, Any]
    choices: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """A scenario as asked for. axes: axis -> labels. settings: the keys that cells do not vary."""

    name: str
    title: str
    axes: Mapping[str, Sequence[str]]
    cells: Sequence[Cell]
    report: Mapping[str, Any]
    cell: str
    settings: Mapping[str, Any]
    command: str


Override = tuple[str, list[Any], bool]  # key, values, whether it was a sweep


def study(arguments: Sequence[str]) -> Study:
    """`["scenario=faker", "defense=krum,spp+krum", "seed=0"]` -> a Study; ConfigError if wrong."""
    overrides = [_parse(argument) for argument in arguments]
    scenario = _single(overrides, "scenario", "single")
    catalogue.check("scenario", scenario)
    base, choices = _base(scenario)
    presets = base.pop("presets", None) or {}
    preset = _single(overrides, "preset", None)
    if preset is not None and preset not in presets:
        raise UnknownNameError(f"preset of scenario={scenario}", str(preset), presets)
    asked = [o for o in overrides if o[0] != "scenario"]
    chosen = [_parse(line) for line in presets.get(preset, [])] if preset else []
    fixed, axes, parameters = _sort({**base.pop("grid")}, [*chosen, *asked], base)
    meta = {key: base.pop(key, None) for key in STUDY_KEYS}
    nodes = {axis: [_node(axis, value) for value in values] for axis, values in axes.items()}
    for key, value in fixed.items():
        base.update(_node(key, value))
        choices |= {key: value} if key in choices else {}
    said = {key for key, _, _ in [*chosen, *asked]}
    cells = list(_cells(base, choices, axes, nodes, parameters, said))
    name = scenario if preset is None else f"{scenario}-{preset}"
    settings = {key: cells[0].config[key] for key in ("output_root", "workers", "keep", "reuse")}
    labels = {axis: list(dict.fromkeys(map(_label, values))) for axis, values in axes.items()}
    return Study(
        name=name,
        title=meta["title"] or scenario,
        axes=labels,
        cells=cells,
        report=meta["report"] or {},
        cell=meta["cell"] or FEDERATION,
        settings=settings,
        command="python run_experiment.py " + " ".join(arguments),
    )


def _parse(text: str) -> Override:
    if "=" not in text or text.startswith(("~", "+")):
        raise ConfigError(
            f"'{text}' is not understood: write key=value, for example scenario=faker, "
            "defense=krum,spp+krum or rounds=10."
        )
    try:
        override = OverridesParser.create().parse_override(text)
        sweep = override.is_sweep_override()
        values = list(override.sweep_iterator()) if sweep else [override.value()]
    except HydraException as error:
        raise ConfigError(f"'{text}' is not understood: {str(error).splitlines()[0]}") from error
    return override.key_or_group, values, sweep


def _single(overrides: Sequence[Override], key: str, default: Any) -> Any:
    for name, values, sweep in overrides:
        if name == key:
            if sweep:
                raise ConfigError(f"{key} takes one value, got {len(values)}: run them one by one.")
            default = values[0]
    return default


def _sort(
    grid: dict[str, Any], overrides: Sequence[Override], base: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[Any]], dict[str, list[Any]]]:
    """Overrides -> fixed keys, axes in order, and parameters (dotted keys) that may be axes too."""
    fixed: dict[str, Any] = {}
    parameters: dict[str, list[Any]] = {}
    axes = {axis: list(values) for axis, values in grid.items()}
    for key, values, sweep in overrides:
        if key not in base and "." not in key:
            raise UnknownNameError("key or group", key, [k for k in base if k not in STUDY_KEYS])
        for value in values:
            _check(key, value, base)
        if "." in key:
            parameters[key] = values
        elif key in axes or sweep:
            axes[key] = values
        else:
            fixed[key] = values[0]
    for key in [k for k in axes if "." in k]:  # a scenario may sweep a parameter as well
        parameters.setdefault(key, axes.pop(key))
    axes |= {key: values for key, values in parameters.items() if len(values) > 1}
    return fixed, axes, parameters


def _check(key: str, value: Any, base: Mapping[str, Any]) -> None:
    group = catalogue.group_of(key)
    if group:
        if value == SAME and key in catalogue.ALIASES:
            return
        if not isinstance(value, str):
            names = catalogue.names(group)
            raise ConfigError(f"{key}={value} names no {group}; take one of {names}.")
        return catalogue.check(group, value)
    default = base.get(key)
    kinds = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
    wanted = kinds.get(type(default))
    if wanted and (
        not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)
    ):
        names = {
            "int": "a whole number",
            "float": "a number",
            "str": "a word",
            "bool": "true or false",
        }
        raise ConfigError(f"{key} must be {names[type(default).__name__]}, got {value!r}.")
    limits = {"rounds": 1, "clients": 1, "attack_start": 1, "block": 1, "threads": 1, "workers": 1}
    if key in limits and value is not None and (not isinstance(value, int) or value < limits[key]):
        raise ConfigError(f"{key} must be a whole number of {limits[key]} or more, got {value!r}.")
    for name, options in {
        "keep": ("none", "last", "all"),
        "reuse": ("same", "any", "none"),
    }.items():
        if key == name and value not in options and value != default:
            raise ConfigError(f"{key} must be one of {', '.join(options)}, got {value!r}.")


@cache
def _composed(name: str, override: str | None) -> Mapping[str, Any]:
    with warnings.catch_warnings(), initialize_config_dir(str(catalogue.CONF), version_base="1.3"):
        warnings.simplefilter("ignore")  # variants need no `_self_`
        overrides = [override] if override else []
        config = compose(name, overrides=overrides, return_hydra_config=True)
        choices = dict(config.hydra.runtime.choices)
        OmegaConf.set_struct(config, False)
        config.pop("hydra")
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return {**plain, "choices": choices}


def _base(scenario: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The config of a scenario before its grid, and the option each group takes."""
    base = deepcopy(dict(_composed("config", f"scenario={scenario}")))
    chosen = {key.rpartition("@")[2]: name for key, name in base.pop("choices").items()}
    taken = {key: name for key, name in chosen.items() if key in base and key != "scenario"}
    return {"grid": {}, "presets": {}, "report": {}, "cell": None, **base}, taken


def _node(key: str, value: Any) -> dict[str, Any]:
    """What a value of an axis or key puts into a cell's config."""
    group = catalogue.group_of(key)
    if group is None or (value == SAME and key in catalogue.ALIASES):
        return {key: value}
    catalogue.check(group, value)
    name, _, inner = value.partition("+")
    node = deepcopy(dict(_composed(f"{group}/{name}", None)))[group]
    if inner:
        if "rule" not in node:
            raise ConfigError(f"{key}={value}: {name} wraps no other rule; wrappers have a `rule`.")
        node["rule"] = _node(key, inner)[key]
    elif node.get("rule") == "???":
        raise ConfigError(f"{key}={name} wraps another rule: write {key}={name}+krum, for example.")
    return {key: node}


def _label(value: Any) -> str:
    return str(value)


def _cells(
    base: Mapping[str, Any],
    choices: Mapping[str, str],
    axes: Mapping[str, list[Any]],
    nodes: Mapping[str, list[dict[str, Any]]],
    parameters: Mapping[str, list[Any]],
    said: Collection[str] = (),
) -> Iterator[Cell]:
    """The grid; cells that a parameter does not reach are not repeated for its values. One that
    reaches none is refused if it was `said`; a scenario's own may reach only what was narrowed away.
    """
    swept = [axis for axis in axes if axis in NOT_IDENTITY]
    seen, reached = set(), set()
    for choice in product(*(range(len(values)) for values in axes.values())):
        config = deepcopy(dict(base))
        labels = {}
        for (axis, values), index in zip(axes.items(), choice, strict=True):
            if axis not in parameters:
                config.update(deepcopy(nodes[axis][index]))
                labels[axis] = _label(values[index])
        for key, values in parameters.items():
            value = values[choice[list(axes).index(key)]] if key in axes else values[0]
            if _set(config, key, value):
                reached.add(key)
            if key in axes:
                labels[key] = _label(value) if key in reached and _has(config, key) else "—"
        config |= {
            key: deepcopy(config[group])
            for key, group in catalogue.ALIASES.items()
            if config.get(key) == SAME
        }
        config["batching"] = config["batching"] or config["model"].get("batching", "loop")
        run_id = identity(config, swept)
        if run_id not in seen:
            seen.add(run_id)
            taken = {group: labels.get(group, name) for group, name in choices.items()}
            yield Cell(run_id, labels, config, taken)
    for key in parameters:
        if key not in reached and key in said:
            _refuse(key, base, nodes)


def identity(config: Mapping[str, Any], swept: Sequence[str] = ()) -> str:
    """12 hex digits over all keys that can change numbers, and those a study sweeps anyway."""
    counted = {k: v for k, v in config.items() if k not in NOT_IDENTITY or k in swept}
    return of_data(counted)[:12]


def _set(config: dict[str, Any], key: str, value: Any) -> bool:
    *path, last = key.split(".")
    node: Any = config
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node or last == "_target_":
        return False
    node[last] = value
    return True


def _has(config: Mapping[str, Any], key: str) -> bool:
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True


def _refuse(key: str, base: Mapping[str, Any], nodes: Mapping[str, list[dict[str, Any]]]) -> None:
    group, _, name = key.partition(".")
    if catalogue.group_of(group) is None:
        raise UnknownNameError("group", group, catalogue.groups())
    options = nodes.get(group) or [{group: base.get(group, {})}]
    known = {k for option in options for k in option[group] if k != "_target_"}
    raise UnknownNameError(f"parameter of the {group} in this study", name, known or {"(none)"})


def workers_for(study: Study) -> int:
    """Cells side by side: as asked, else the cores; one on a GPU or beside client processes."""
    asked = study.settings["workers"]
    if asked is not None:
        return asked
    alone = any(
        cell.config.get("device") == "cuda"
        or "processes" in cell.config.get("runtime", {})
        or "processes" in cell.config.get("deepspeed", {})
        or cell.config.get("consensus", {}).get("transport") == "processes"
        for cell in study.cells
    )
    return 1 if alone else len(os.sched_getaffinity(0))
