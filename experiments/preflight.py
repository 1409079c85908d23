"""Everything that can be refused is refused here, before any training starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from rich.console import Console

from experiments import federation_cell, streamed
from experiments.build import build, locate
from experiments.compose import FEDERATION, Study, workers_for
from experiments.progress import duration
from fedalign.core.contracts import ClientInfo
from fedalign.core.digest import canonical
from fedalign.core.vectors import Layout

LONG_S = 600.0
KEEP_BYTES = 1e9
SHOWN = 10_000  # clients in a figure of the partition


@dataclass(frozen=True)
class Checked:
    """facts: run id -> what the report should know of a cell. holdings: samples per class of
    every client of the first cell, for the partition figure. keep: which rounds' inputs are kept."""

    facts: Mapping[str, Mapping[str, Any]]
    holdings: Sequence[Sequence[int]] = ()
    keep: str = "last"


def check(study: Study, console: Console) -> Checked:
    """Build every object of every axis once and refuse with one sentence what cannot run.

    Prints the estimated time of a study that takes long.
    """
    if study.cell != FEDERATION:
        locate(study.cell)
        return Checked({})
    facts: dict[str, dict[str, Any]] = {}
    built: dict[str, Any] = {}
    holdings: list[list[list[int]]] = []
    kept = 0.0
    for cell in study.cells:
        for group in (
            "algorithm",
            "model",
            "workload",
            "partition",
            "attack",
            "defense",
            "incentive",
            "topology",
            "global_defense",
            "stragglers",
            "clock",
            *(group for group in ("objective", "peft") if group in cell.config),
        ):
            key = canonical(cell.config[group])
            if key not in built:
                built[key] = build(cell.config[group])
        key = canonical([cell.config[name] for name in _RULE_KEYS])
        if key not in built:
            built[key] = federation_cell.validate(cell.config)
        facts[cell.run_id] = built[key]
        key = canonical([cell.config.get(name) for name in _DATA_KEYS])
        task = canonical([cell.config.get(name) for name in _TASK_KEYS])
        if key not in built or task not in built:
            found = federation_cell.client_work(cell.config).workload
            if key not in built:
                holdings.append(_holdings(found.clients))
            built.setdefault(key, found)
            built[task] = True
        layout, rows = built[key].layout, cell.config["clients"] * cell.config["participation"]
        if not streamed.streams(built[canonical(cell.config["defense"])]):
            kept += 4 * layout.size * rows
        _rehearse(cell.config, layout, built)
    _estimate(study, console)
    return Checked(facts, holdings[0], _keep(study, kept))


_RULE_KEYS = (
    "attack", "defense", "clients", "byzantine_fraction", "participation", "seed", "device",
    "local_epochs", "local_steps", "topology", "global_defense", "stragglers", "clock", "incentive",
    "rounds", "consensus", "attack_level", "fault", "faulty_servers",
)  # fmt: skip
_TASK_KEYS = ("workload", "objective", "peft", "model", "algorithm", "precision", "rounds")
_DATA_KEYS = ("data", "partition", "model", "peft", "algorithm", "clients", "seed", "byzantine_fraction",
              "topology", "attack_level")  # fmt: skip


def _holdings(clients: Sequence[ClientInfo]) -> list[list[int]]:
    """Samples per class of every client, where there are few enough to look at."""
    few = clients if len(clients) <= SHOWN else ()
    return [list(info.classes) for info in few]


def _rehearse(config: Mapping[str, Any], layout: Layout, built: dict[str, Any]) -> None:
    """Attack and rule once on noise of the real shape: what they refuse is refused now."""
    attack, rule = (built[canonical(config[name])] for name in ("attack", "defense"))
    for name in ("attack", "defense"):
        place = [config["clients"], config["attack_level"], config["topology"], layout.size]
        key = canonical(["rehearsed", config[name], *place])
        if key in built:
            continue
        built[key] = True
        federation_cell.rehearse(config, layout, attack if name == "attack" else None, rule)


def _keep(study: Study, kept_bytes: float) -> str:
    """As asked; else the last round of every run, unless that would pass the limit."""
    return study.settings["keep"] or ("last" if kept_bytes <= KEEP_BYTES else "none")


def _estimate(study: Study, console: Console) -> None:
    """One timed round of the first cell, if the study looks long."""
    cells = [c.config for c in study.cells]
    client_rounds = sum(c["rounds"] * c["clients"] * c["participation"] for c in cells)
    if client_rounds < 1_000_000:
        return
    seconds, timed = 0.0, {}
    for config in cells:
        key = canonical([config["data"], config["model"], config["clients"]])
        if key not in timed:
            sample = {**config, "rounds": 1, "runtime": {"_target_": _INLINE}}
            share = streamed.share(config)
            sample["participation"] *= share
            parts = federation_cell.federation(sample)
            begin = perf_counter()
            federation_cell.global_round(parts, federation_cell.State(0, parts.workload.initial()))
            timed[key] = (perf_counter() - begin) / share
        seconds += timed[key] * config["rounds"]
    seconds /= workers_for(study)
    if seconds > LONG_S:
        console.print(
            f"This study will take about {duration(seconds)} ({len(cells)} cells); it can be "
            "stopped and continued at any time.",
            highlight=False,
        )


_INLINE = "fedalign.federation.runtimes.inline.Inline"
