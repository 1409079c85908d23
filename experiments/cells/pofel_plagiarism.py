"""Cell of `scenario=pofel_plagiarism`: what it earns to hand in somebody else's model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from consensus.faults.free_ride import FreeRide
from consensus.faults.plagiarise import Plagiarise
from consensus.pofel.task import Evaluator
from consensus.protocol import Faulty, PoFEL
from experiments.benchmarks.cells import write_rows
from experiments.cells.pofel_rounds import SIMPLE, STEP, Row, agree, curve, models
from fedalign.core.agreement import Verdict

Config = Mapping[str, Any]


def pofel_plagiarism(config: Config, folder: Path, environment: Config) -> None:
    """The last server copies, in every way it can; rows per way, a curve over the copy's noise."""
    ways = {
        "honest": None,
        "copied commitment": Plagiarise("commitment"),
        "copied reveal": Plagiarise("late"),
        "no work": FreeRide(),
        "noise as work": FreeRide(STEP),
    }
    rows = [_row(config, name, fault) for name, fault in ways.items()]
    share = []
    for noise in config["noise"]:
        rows.append(_row(config, f"near copy, noise {noise:g}", Plagiarise("near", noise=noise)))
        share.append(rows[-1]["pay / honest pay"])
    seen = [(np.log10(noise), pay) for noise, pay in zip(config["noise"], share, strict=True)
            if noise > 0]  # fmt: skip
    across, up = "log10 of the copy's noise (in its lengths)", "pay / honest server's pay"
    line = f"delta = {config['delta']:g}"
    rows.append(curve("plagiarism", "Near copies", line, *zip(*seen, strict=True), across, up))
    write_rows(rows, config, folder, environment)


def _row(config: Config, name: str, fault) -> Row:
    n, seed = config["servers"], config["seed"]
    copier = n - 1
    faults = [] if fault is None else [Faulty(fault, (copier,))]
    evaluator = Evaluator(delta_ppm=round(1e6 * config["delta"]))
    chain = PoFEL(n, seed, faults=faults, evaluator=evaluator, **SIMPLE)
    chain.open(None)
    found = [agree(chain, models(n, config["d"], seed, k), k) for k in _rounds(config)]
    pay = [_pay(verdict, copier) for verdict in found]
    honest = [np.mean([_pay(v, i) for i in range(copier)]) for v in found]
    strikes = {kind for verdict in found for server, kind in verdict.strikes if server == copier}
    guilty = all(server == copier for verdict in found for server, _ in verdict.strikes)
    bonus = chain.rewards.units * chain.rewards.voters_ppm / 1e6 / n
    return {
        "delta": config["delta"], "way": name, "seed": seed,
        "in the round": bool(np.mean([copier in v.members for v in found]) == 1),
        "earns by the model": bool(np.mean(pay) > 2 * bonus),
        "pay / honest pay": float(np.sum(pay) / np.sum(honest)),
        "leads": float(np.mean([v.leader == copier for v in found])),
        "strikes": ", ".join(sorted(strikes)) or "none",
        "only the copier struck": guilty,
    }  # fmt: skip


def _rounds(config: Config) -> range:
    return range(1, config["rounds"] + 1)


def _pay(verdict: Verdict, server: int) -> float:
    return float(verdict.rewards.get(server, 0))
