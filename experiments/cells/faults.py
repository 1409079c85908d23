"""Cell of `scenario=raft_faults`: seeded fault schedules, judged after every event, then healed.

The same is done to the BFT core, whose schedules have liars too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from consensus.bft import swarm as bft
from consensus.raft import swarm as raft
from experiments.benchmarks.cells import write_rows
from fedalign.core.errors import ConfigError, UnknownNameError

Config = Mapping[str, Any]
Row = dict[str, Any]
SWARMS = {"raft": raft, "bft": bft}


def raft_faults(config: Config, folder: Path, environment: Config) -> None:
    """So many schedules of crashes, partitions, slow disks ...; the report ends with what failed."""
    count, first, simulated_s = config["seeds"], config["first_seed"], config["simulated_s"]
    orderer = config["orderer"]
    if orderer not in SWARMS:
        raise UnknownNameError("orderer", orderer, SWARMS)
    if count < 1 or first < 0 or not simulated_s >= 2:
        raise ConfigError(
            f"raft_faults plays seeds >= 1 schedules of simulated_s >= 2 seconds from first_seed "
            f">= 0 on, got {count}, {simulated_s} and {first}."
        )
    write_rows(_play(orderer, count, first, simulated_s), config, folder, environment)


def _play(orderer: str, count: int, first: int, simulated_s: float) -> list[Row]:
    swarm = SWARMS[orderer]
    begin, played, broken, trace = process_time(), [], [], sha256()
    for seed in range(first, first + count):
        schedule = swarm.draw(seed, int(simulated_s * 1_000_000))
        try:
            outcome = swarm.play(schedule)
            trace.update(outcome.trace.encode())
        except (raft.SwarmError, bft.SwarmError) as error:
            sys.stderr.write(f"{error}\n")  # now, not only in the report
            broken.append(
                {"table": "violations", "orderer": orderer, "seed": seed, "what": str(error)}
            )
            outcome = None
        played.append((schedule, outcome))
    spent = process_time() - begin
    events = sum(outcome.events for _, outcome in played if outcome is not None)
    speed = {
        "table": "time", "orderer": orderer, "schedules": count, "CPU s": round(spent, 2),
        "schedules per CPU s": round(count / spent, 1),
        "events per CPU s": round(events / spent),
        "10,000 schedules in CPU s": round(10_000 * spent / count),
    }  # fmt: skip
    faults = [_with_fault(orderer, fault, played) for fault in swarm.FAULTS]
    total = {"orderer": orderer, **_total(played, swarm.FAULTS), "trace": trace.hexdigest()[:16]}
    return [total, *(row for row in faults if row), *_liars(orderer, played), speed, *broken]


def _total(played: Sequence[tuple], faults: Sequence[str]) -> Row:
    went_well = [outcome for _, outcome in played if outcome is not None]
    actions = [action for schedule, _ in played for action in schedule.actions]
    return {
        "schedules": len(played),
        "events": sum(outcome.events for outcome in went_well),
        "faults": sum(action.what in faults for action in actions),
        "client calls": sum(outcome.operations for outcome in went_well),
        "entries": sum(outcome.committed for outcome in went_well),
        "terms or heights": sum(outcome.terms for outcome in went_well),
        "violations": len(played) - len(went_well),
        **_healing(went_well, len(played)),
    }


def _with_fault(orderer: str, fault: str, played: Sequence[tuple]) -> Row | None:
    """One kind of fault: in how many schedules, how often, and what became of them."""
    times = [sum(action.what == fault for action in schedule.actions) for schedule, _ in played]
    outcomes = [outcome for (_, outcome), n in zip(played, times, strict=True) if n]
    if not outcomes:
        return None
    went_well = [outcome for outcome in outcomes if outcome is not None]
    return {
        "table": "faults", "orderer": orderer, "fault": fault.replace("_", " "), "schedules": len(outcomes),
        "times": sum(times), "violations": len(outcomes) - len(went_well),
        **_healing(went_well, len(outcomes)),
    }  # fmt: skip


def _liars(orderer: str, played: Sequence[tuple]) -> list[Row]:
    """BFT only: kinds of Byzantine servers, and the contradictions honest ones could prove."""
    if orderer != "bft":
        return []
    rows = []
    for kind in bft.LIARS:
        lied = [(len(getattr(s.setting, kind)), o) for s, o in played if getattr(s.setting, kind)]
        went_well = [outcome for _, outcome in lied if outcome is not None]
        if lied:
            rows.append({
                "table": "liars", "liars": kind.replace("_", "-"), "schedules": len(lied),
                "servers": sum(count for count, _ in lied),
                "violations": len(lied) - len(went_well),
                "contradictions proved": sum(outcome.evidence for outcome in went_well),
                **_healing(went_well, len(lied)),
            })  # fmt: skip
    return rows


def _healing(went_well: Sequence[raft.Outcome | bft.Outcome], count: int) -> Row:
    """How many made progress after everything healed, and when (simulated time)."""
    if not went_well:
        return {"progress after heal": f"0 of {count}", "heal ms, median": None, "worst": None}
    healed = np.array([outcome.healed_us for outcome in went_well]) / 1000
    return {
        "progress after heal": f"{len(went_well)} of {count}",
        "heal ms, median": float(np.median(healed)),
        "worst": float(healed.max()),
    }
