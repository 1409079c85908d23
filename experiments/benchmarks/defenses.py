"""Speed of the defenses: ours, Flower's and ByzFL's on the same matrix, interleaved in one run.

Ratios are what counts: absolute times depend on the machine and on who else uses it. Everything
runs on one thread, the minimum of the repetitions is reported, and costs are per
client-parameter, time / (n d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from defenses.bulyan import Bulyan
from defenses.centered_clipping import CenteredClipping
from defenses.fedavg import FedAvg
from defenses.geometric_median import GeometricMedian
from defenses.krum import Krum
from defenses.meamed import Meamed
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.pre.arc import ARC
from defenses.pre.nnm import NNM
from defenses.trimmed_mean import TrimmedMean
from experiments.benchmarks import rivals
from fedalign.core.contracts import Context, Defense


@dataclass(frozen=True)
class Goal:
    """How many times faster than each rival, at n = 20 and d = 10^6; None: no rival, no goal."""

    flower: float | None = None
    byzfl: float | None = None


RULES: Mapping[str, tuple[Defense, Goal]] = {
    "fedavg": (FedAvg(), Goal(flower=10)),
    "median": (Median(), Goal(flower=15, byzfl=15)),
    "trimmed_mean": (TrimmedMean(), Goal(flower=8, byzfl=3)),
    "meamed": (Meamed(), Goal()),
    "krum": (Krum(), Goal(flower=10, byzfl=20)),
    "multi_krum": (MultiKrum(), Goal(flower=10, byzfl=15)),
    "bulyan": (Bulyan(), Goal(flower=25)),
    "geometric_median": (GeometricMedian(), Goal(byzfl=5)),
    "centered_clipping": (CenteredClipping(), Goal(byzfl=10)),
    "nnm+fedavg": (NNM(FedAvg()), Goal(byzfl=15)),
    "arc+fedavg": (ARC(FedAvg()), Goal()),
}
RIVALS = ("Flower", "ByzFL")
MANY_CLIENTS, MANY_TIMES = 100, 3.0  # from 100 clients on: 3 times the faster rival
NEAR_FLOOR = 2.0  # a rival this near the memory-read floor need only be matched
MATCHED = 0.95  # "not slower" within the noise of a shared machine


@dataclass
class _Racer:
    """One implementation at the d it can stand, and its best time so far."""

    call: Callable[[np.ndarray], Any]
    matrix: np.ndarray
    runs: int
    times: list[float] = field(default_factory=list)

    def run(self) -> None:
        if len(self.times) < self.runs:
            start = perf_counter()
            self.call(self.matrix)
            self.times.append(perf_counter() - start)

    @property
    def ns(self) -> float:
        return min(self.times) / self.matrix.size * 1e9


def measure(
    n: int,
    d: int,
    repetitions: int = 5,
    rules: Sequence[str] = tuple(RULES),
    seconds_per_call: float = 60.0,
    bytes_per_call: float = 8e9,
    byzantine_share: float = 0.2,
) -> list[dict[str, Any]]:
    """One row per rule, times in ns per client-parameter.

    n, d: the matrix, standard normal float32. repetitions: >= 1; rivals slower than 2 s a call run
    twice. A rival that would need more than `seconds_per_call` or `bytes_per_call` runs at the
    largest d / 10^k that fits, in column `<rival>_d`. byzantine_share: f = share · n, at most
    what Bulyan stands where Bulyan is measured.
    Columns: see `_row`; "table" names the size.
    """
    drawn = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    matrix = torch.from_numpy(drawn).clone().numpy()  # in memory as torch aligns it, as in a round
    rows = []
    with one_thread():
        for name in rules:
            f = int(byzantine_share * n)
            if name == "bulyan":
                f = min(f, (n - 3) // 4)
            rows.append(_row(name, f, matrix, repetitions, (seconds_per_call, bytes_per_call)))
    return rows


def _row(
    name: str, f: int, matrix: np.ndarray, repetitions: int, limits: tuple[float, float]
) -> dict[str, Any]:
    """Columns: rule; n; d; ns per client-parameter of ours, of reading the matrix once, and of
    each rival (of ByzFL's backends the faster) with its ratio to ours; goal and met, see `_judged`;
    extra MB, our peak memory above the matrix; a note with f and the d of a rival that ran smaller.
    """
    rule, goal = RULES[name]
    context = Context(byzantine_count=f)

    def ours(x: np.ndarray) -> Any:
        return rule(torch.from_numpy(x), context)

    racers = {
        "ours": _Racer(ours, matrix, repetitions),
        "floor": _Racer(lambda x: torch.from_numpy(x).sum(), matrix, repetitions),
    }
    rival_calls = {
        "Flower": rivals.flower(name, f),
        "ByzFL/numpy": rivals.byzfl(name, f, "numpy"),
        "ByzFL/torch": rivals.byzfl(name, f, "torch"),
    }
    for rival, call in rival_calls.items():
        if call is not None:
            racers[rival] = _entered(call, matrix, repetitions, limits)
    ours(matrix)  # plans and caches
    for _ in range(repetitions):
        for racer in racers.values():
            racer.run()
    row = {"table": f"{len(matrix)} clients, {matrix.shape[1]} parameters", "rule": name}
    row |= {"n": len(matrix), "d": matrix.shape[1]}
    row |= {"ours ns": racers["ours"].ns, "floor ns": racers["floor"].ns}
    notes = []
    for rival in RIVALS:
        entered = [racer for key, racer in racers.items() if key.split("/")[0] == rival]
        best = min(entered, key=lambda racer: racer.ns, default=None)
        row[f"{rival} ns"] = best and best.ns
        row[f"{rival} ratio"] = best and best.ns / row["ours ns"]
        if best and best.matrix.shape[1] < row["d"]:
            notes.append(f"{rival} at d={best.matrix.shape[1]}")
    row |= _judged(row, goal)
    row["extra MB"] = _extra_megabytes(lambda: ours(matrix))
    return row | {"note": ", ".join([f"f={f}", *notes])}


def _entered(
    call: Callable, matrix: np.ndarray, repetitions: int, limits: tuple[float, float]
) -> _Racer:
    """A rival at the largest d that its cost on a hundredth of the columns lets expect to fit."""
    d = matrix.shape[1]
    small = np.ascontiguousarray(matrix[:, : max(1, d // 100)])
    times = []
    memory = _extra_megabytes(lambda: times.append(_timed(call, small))) or 0.0
    per_column, bytes_per_column = times[0] / small.shape[1], memory * 1e6 / small.shape[1]
    columns = d
    while columns > small.shape[1] and (
        columns * per_column > limits[0] or columns * bytes_per_column > limits[1]
    ):
        columns //= 10
    slow = columns * per_column > 2
    cut = matrix if columns == d else np.ascontiguousarray(matrix[:, :columns])
    return _Racer(call, cut, min(repetitions, 2) if slow else repetitions)


def _timed(call: Callable, matrix: np.ndarray) -> float:
    start = perf_counter()
    call(matrix)
    return perf_counter() - start


def _judged(row: dict[str, Any], goal: Goal) -> dict[str, Any]:
    """What was asked at this size, and whether it was met; nothing asked: met is None."""
    ratios = {r: row[f"{r} ratio"] for r in RIVALS if row[f"{r} ratio"] is not None}
    if row["n"] >= MANY_CLIENTS and ratios:
        rival = min(ratios, key=ratios.__getitem__)
        near = row[f"{rival} ns"] <= NEAR_FLOOR * row["floor ns"]
        asked = {rival: MATCHED if near else MANY_TIMES}
    elif row["n"] == 20 and row["d"] == 1_000_000:
        asked = {r: g for r in ratios if (g := getattr(goal, r.lower())) is not None}
    else:
        asked = {}
    text = ", ".join(f"{r} x{g:g}" for r, g in asked.items())
    return {"goal": text, "met": all(ratios[r] >= g for r, g in asked.items()) if asked else None}


def _extra_megabytes(call: Callable[[], Any]) -> float | None:
    """Peak resident memory during the call minus that before it; None where Linux does not tell."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        refs.write_text("5")  # resets the high-water mark
        before = _resident(status, "VmRSS")
        call()
        return max(0.0, (_resident(status, "VmHWM") - before) / 1e3)
    except OSError:
        call()
        return None


def _resident(status: Path, key: str) -> float:
    """Kilobytes."""
    lines = status.read_text().splitlines()
    return float(next(line for line in lines if line.startswith(key)).split()[1])


@contextmanager
def one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
