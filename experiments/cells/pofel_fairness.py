"""Cell of `scenario=pofel_fairness`: who leads, and what everybody earns, over many rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from consensus.pofel.tally import Fairness
from consensus.protocol import PoFEL
from experiments.benchmarks.cells import write_rows
from experiments.cells.pofel_rounds import SIMPLE, agree, curve, models

Config = Mapping[str, Any]


def pofel_fairness(config: Config, folder: Path, environment: Config) -> None:
    """Servers whose data differ in amount and likeness, for as many blocks as asked."""
    n, seed, kind = config["servers"], config["seed"], config["fairness"]
    chain = PoFEL(n, seed, fairness=Fairness(kind, config["cooldown"]), **SIMPLE)
    chain.open(None)
    spread = np.linspace(0.15, 0.6, n)  # the first server's clients are like everybody's
    samples = np.linspace(400, 100, n).astype(int)
    leaders, pay, strikes, aborts = [], np.zeros(n), 0, 0
    for k in range(1, config["rounds"] + 1):
        updates = models(n, config["d"], seed, k, spread=spread, samples=samples)
        verdict = agree(chain, updates, k)
        leaders.append(verdict.leader)
        pay += [verdict.rewards.get(i, 0) for i in range(n)]
        strikes, aborts = strikes + len(verdict.strikes), aborts + verdict.aborted
    wins = np.bincount(leaders, minlength=n)
    row = {
        "fairness": kind, "seed": seed,
        "Jain of leaderships": jain(wins),
        "most by one": float(wins.max() / len(leaders)),
        "leaders": int((wins > 0).sum()),
        "longest row": _longest(leaders),
        "Jain of pay": jain(pay), "Jain of pay per sample": jain(pay / samples),
        "strikes": strikes, "aborted": aborts,
    }  # fmt: skip
    over = [jain(np.bincount(leaders[:k], minlength=n)) for k in range(1, len(leaders) + 1)]
    rounds = list(range(1, len(leaders) + 1))
    drawn = curve("fairness", "Leaderships so far", kind, rounds, over, "round", "Jain's index")
    share = [
        {"table": "servers", "fairness": kind, "server": i, "seed": seed,
         "samples": int(samples[i]), "likeness spread": float(spread[i]),
         "leads": float(wins[i] / len(leaders)), "pay": float(pay[i] / pay.sum())}
        for i in range(n)
    ]  # fmt: skip
    write_rows([row, *share, drawn], config, folder, environment)


def jain(values: Sequence[float]) -> float:
    """(Σ x)² / (n Σ x²): 1 where all are equal, 1/n where one has everything."""
    x = np.asarray(values, dtype=np.float64)
    return float(x.sum() ** 2 / (len(x) * np.square(x).sum()))


def _longest(leaders: Sequence[int]) -> int:
    """Most rounds in a row with one leader."""
    longest = run = 1
    for one, two in pairwise(leaders):
        run = run + 1 if one == two else 1
        longest = max(longest, run)
    return longest
