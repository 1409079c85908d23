"""Cell of `scenario=mta`: train once, then meet unseen instances beside everybody else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from experiments.benchmarks.cells import write_rows
from fedalign.core.seeds import Seeds
from incentives.mta.assignment import Assignment
from incentives.mta.generator import MTAGenerator
from incentives.mta.heuristics.greedy import Greedy
from incentives.mta.heuristics.local_search import LocalSearch
from incentives.mta.heuristics.price_density import PriceDensity
from incentives.mta.heuristics.random_feasible import RandomFeasible
from incentives.mta.instance import MTAInstance
from incentives.mta.optimum import MTAOptimum, Solved
from incentives.mta.policy import MTAPolicy
from incentives.mta.reinforce import Reinforce
from incentives.mta.scorer import MTAScorer
from incentives.mta.tabular_q import TabularQ

Config = Mapping[str, Any]
Rows = list[dict[str, Any]]
Decide = Callable[[MTAInstance, np.random.Generator], Assignment]
RANDOM_DRAWS = 50
SMOOTHED = 20  # updates averaged in the learning curve


def mta(config: Config, folder: Path, environment: Config) -> None:
    """Train on one size, meet that size (main table) and others; rows per instance and method."""
    seeds, size = Seeds(config["seed"]), (config["tasks"], config["servers"])
    trainer = Reinforce(MTAGenerator(*size), **config["training"])
    begin = perf_counter()
    scorer, history = trainer(seeds.at("mta_training", tasks=size[0], servers=size[1]))
    training_s = perf_counter() - begin
    methods = _methods(scorer, config["samples"])
    rows, shares = _met(config, seeds, size, config["instances"], methods, training_s)
    rows += shares
    few = {name: methods[name] for name in _SHOWN_ABROAD}
    for other in map(tuple, config["transfer"] or ()):
        if other != size:
            met, _ = _met(config, seeds, other, config["transfer_instances"], few, training_s)
            where = {"table": "other sizes", "trained on": _named(size)}
            rows += [where | row for row in met]
    write_rows([*rows, _learning(history, size)], config, folder, environment)


_SHOWN_ABROAD = ("policy", "policy, one try", "greedy by price", "local search")


def _methods(scorer: MTAScorer, samples: int) -> dict[str, Decide]:
    policy, once = MTAPolicy(scorer, samples), MTAPolicy(scorer, 0)
    meant = TabularQ(learning_rate=0.1, discount=0.9)
    return {
        "policy": policy,
        "policy, one try": lambda instance, rng: once(instance),
        "tabular Q": TabularQ(),
        "tabular Q, lr .1": meant,
        "local search": lambda instance, rng: LocalSearch()(instance),
        "greedy by price": lambda instance, rng: Greedy("price")(instance),
        "price density": lambda instance, rng: PriceDensity()(instance),
        "greedy": lambda instance, rng: Greedy()(instance),
        "random": RandomFeasible(),
    }


def _met(
    config: Config,
    seeds: Seeds,
    size: tuple[int, int],
    count: int,
    methods: Mapping[str, Decide],
    training_s: float,
) -> tuple[Rows, Rows]:
    """Rows of `count` instances that training never saw: another address of the same seed. What is
    earned, and what servers get of it."""
    m, n = size
    milp = MTAOptimum(config["milp_time_limit_s"])
    rows: Rows = []
    shares: Rows = []
    for k in range(count):
        instance = MTAGenerator(m, n)(seeds.at("mta_instance", tasks=m, servers=n, k=k))
        where = {"tasks x servers": _named(size), "instance": f"{config['seed']}/{k}"}
        begin = perf_counter()
        with _silent():
            best = milp(instance)
        spent = perf_counter() - begin
        bound = milp.bound(instance)
        rows.append(where | _row("MILP", best, [best.assignment], spent) | {"gap": best.gap})
        shares.append(
            {"table": "servers"} | where | {"method": "MILP"} | _shared([best.assignment])
        )
        over = _ratio(bound, best.assignment.value)
        rows.append(where | {"method": "LP bound", "of MILP": over})
        for name, decide in methods.items():
            rng = seeds.at("mta_decision", method=name, tasks=m, servers=n, k=k)
            tries = RANDOM_DRAWS if name == "random" else 1
            begin = perf_counter()
            found = [decide(instance, rng) for _ in range(tries)]
            spent = (perf_counter() - begin) / tries
            learned = {"training s": training_s} if name.startswith("policy") else {}
            rows.append(where | _row(name, best, found, spent) | learned)
            shares.append({"table": "servers"} | where | {"method": name} | _shared(found))
    return rows, shares


def _row(method: str, best: Solved, found: Sequence[Assignment], seconds: float) -> dict[str, Any]:
    value = _mean(found, lambda a: a.value)
    return {
        "method": method,
        "of MILP": _ratio(value, best.assignment.value),
        "of bound": _ratio(value, best.bound),
        "late": sum(a.late for a in found),
        "overfull": sum(a.overfull for a in found),
        "ms per task": 1e3 * seconds / found[0].instance.tasks,
    }


def _shared(found: Sequence[Assignment]) -> dict[str, float]:
    """What servers get of it: Jain's index is of their revenue."""
    return {
        "served": _mean(found, lambda a: a.served),
        "utilisation": _mean(found, lambda a: a.utilisation),
        "Jain": _mean(found, lambda a: a.jain),
    }


def _mean(found: Sequence[Assignment], read: Callable[[Assignment], float]) -> float:
    return float(np.mean([read(a) for a in found]))


def _ratio(value: float, whole: float) -> float:
    """NaN where a search found nothing in its time, or there is nothing to find."""
    return value / whole if whole > 0 else float("nan")


def _learning(history: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """What all tries earned: a running mean, since every update has other instances."""
    width = min(SMOOTHED, len(history))
    mean = np.convolve(history, np.ones(width) / width, "valid")
    return {
        "figure": "learning", "panel": f"trained on {_named(size)}",
        "line": f"mean of all tries, over {width} updates",
        "x": (np.arange(len(mean)) + (width + 1) / 2).tolist(), "y": mean.tolist(),
        "x_label": "update", "y_label": "earned / greedy by price",
    }  # fmt: skip


def _named(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


@contextmanager
def _silent() -> Iterator[None]:
    """HiGHS prints debugging lines of its own to the process's output, whatever it is told."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
