"""What estimating the missing costs: HieAvg beside FedAvg over everybody, interleaved in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defenses.fedavg import FedAvg
from defenses.hieavg import HieAvg
from experiments.benchmarks.defenses import one_thread
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError

RULES = {
    "hieavg": HieAvg(),
    "hieavg_guarded": HieAvg(delta_clip=1.5, estimate_only_if_trusted=True),
    "d_fedavg": HieAvg(mode="none", delta="zero"),
    "mifa": HieAvg(mode="none", delta="drift"),
}
GOALS = {"hieavg": 1.3}  # times FedAvg at most, at a fifth missing
COLD_BOOT = 2  # rounds in which everybody comes


def measure(
    n: int, d: int, away: float, repetitions: int, rules: Sequence[str] = tuple(RULES)
) -> list[dict[str, Any]]:
    """One row per rule: CPU ns per member-parameter, and how many times FedAvg's that is.

    n members send d float32 values each; from round 3 on int(away * n) of them, drawn anew every
    round, are missing (0 <= away < 1). FedAvg averages all n. Best of `repetitions` (>= 1) such rounds.
    ConfigError for anything else.
    """
    if n < 2 or d < 1 or not 0 <= away < 1 or repetitions < 1:
        raise ConfigError(
            "speed_stragglers needs n >= 2, d >= 1, away in [0, 1) and repetitions >= 1, got "
            f"{n}, {d}, {away} and {repetitions}."
        )
    rng, plain = np.random.default_rng(0), FedAvg("samples")
    torch_rng = torch.Generator().manual_seed(0)
    matrices = [torch.randn(n, d, generator=torch_rng) for _ in range(2)]
    model = torch.randn(d, generator=torch_rng)
    memories: dict[str, Mapping[str, Any]] = {name: {} for name in rules}
    best = dict.fromkeys(("fedavg", *rules), float("inf"))
    with one_thread():
        for r in range(1, COLD_BOOT + 1 + repetitions):
            gone = rng.choice(n, int(away * n) if r > COLD_BOOT else 0, replace=False).tolist()
            here = [u for u in range(n) if u not in gone]
            rows, counted = matrices[r % 2][here], r > COLD_BOOT
            took, _ = _timed(plain, matrices[r % 2], Context(weights=torch.ones(n)))
            best["fedavg"] = min(best["fedavg"], took) if counted else best["fedavg"]
            for name in rules:
                context = Context(
                    round=r, clients=torch.tensor(here), weights=torch.ones(len(here)),
                    absent=dict.fromkeys(gone, 1.0), model=model, memory=memories[name],
                )  # fmt: skip
                took, decided = _timed(RULES[name], rows, context)
                memories[name] = decided.memory
                best[name] = min(best[name], took) if counted else best[name]
    table = f"{n} members, {d} parameters, {int(away * n)} missing"
    ns = {name: seconds / (n * d) * 1e9 for name, seconds in best.items()}
    return [
        {"table": table, "rule": name, "n": n, "d": d, "ns": ns[name], "FedAvg ns": ns["fedavg"],
         "times FedAvg": ns[name] / ns["fedavg"], "goal": GOALS.get(name)} for name in rules
    ]  # fmt: skip


def _timed(rule: Defense, rows: Tensor, context: Context) -> tuple[float, Aggregate]:
    """CPU seconds: who else uses this machine counts less than on the clock of the wall."""
    begin = process_time()
    decided = rule(rows, context)
    return process_time() - begin, decided
