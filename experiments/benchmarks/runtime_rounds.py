"""Whole rounds of one small federation on every runtime: seconds per round, and what starting and
ending costs.

Digits, an MLP of 4,810 parameters, 20 clients of two epochs in blocks of five. Runs are taken in
turn; the first round of each, in which workers import, does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from experiments import compose, federation_cell
from fedalign.core.errors import ConfigError, FedalignError, UnknownNameError
from fedalign.core.log import read
from fedalign.federation.runtimes.flower.engines import refuse

Row = Mapping[str, Any]
INLINE = "inline"
RUNTIMES: Mapping[str, Sequence[str]] = {
    INLINE: (),
    "processes, 2": ("runtime=processes", "runtime.processes=2"),
    "flower local": ("runtime=flower",),
    "flower ray": ("runtime=flower", "runtime.mode=ray"),
    "flower deploy": ("runtime=flower", "runtime.mode=deploy"),
}
ONCE = ("flower ray", "flower deploy")  # they take long to come up
GOALS = {"flower local": 1.3}  # times the time of inline
WORDS = (
    "scenario=single", "clients=20", "block=5", "batching=loop", "byzantine_fraction=0", "seed=0",
)  # fmt: skip


def rounds(
    repetitions: int, runtimes: Sequence[str] | None = None, count: int = 6
) -> Sequence[Row]:
    """runtimes: which of RUNTIMES beside inline, None: all. count: rounds of a run, >= 2. One row
    per runtime."""
    for name in runtimes or ():
        if name not in RUNTIMES:
            raise UnknownNameError("runtime", name, RUNTIMES)
    asked = [name for name in RUNTIMES if runtimes is None or name in (INLINE, *runtimes)]
    found: dict[str, list[Mapping[str, Any]]] = {}
    notes: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        for turn in range(max(repetitions // 2, 1)):
            for name, words in ((name, RUNTIMES[name]) for name in asked):
                if name in notes or (turn and name in ONCE):
                    continue
                try:
                    run = _played(
                        [*WORDS, f"rounds={count}", *words], Path(folder) / f"{name}{turn}"
                    )
                except FedalignError as error:
                    notes[name] = str(error).splitlines()[0]
                else:
                    found.setdefault(name, []).append(run)
    rows = []
    for name in asked:
        row: dict[str, Any] = {"table": "rounds", "runtime": name}
        rows.append(row | ({"note": notes[name]} if name in notes else _row(name, found)))
    return rows


def _row(name: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    fastest = {one: min(run["round"] for run in runs) for one, runs in found.items()}
    ratio = fastest[name] / fastest[INLINE]
    row = {
        "s per round": round(fastest[name], 4),
        "x inline": round(ratio, 2),
        "overhead ms per client": round((fastest[name] - fastest[INLINE]) / 20 * 1e3, 3),
        "start and end s": round(min(run["rest"] for run in found[name]), 1),
        "same digest": {run["digest"] for run in found[name]} == {found[INLINE][0]["digest"]},
    }
    if name in GOALS:
        row |= {"goal": f"<= {GOALS[name]} x inline", "met": ratio <= GOALS[name]}
    return row


def _played(words: Sequence[str], folder: Path) -> Mapping[str, Any]:
    """Median seconds of a round, seconds of the rest, and the digest."""
    config = {**compose.study(words).cells[0].config, "keep": "none"}
    try:
        refuse(config["runtime"])
    except ConfigError as absent:
        raise FedalignError(f"not run: {absent}") from absent
    begin = perf_counter()
    federation_cell.play(config, folder, {})
    total = perf_counter() - begin
    events = [body for body, _ in read(folder / "events.jsonl")]
    seconds = [event["seconds"]["whole"] for event in events if event["event"] == "round"]
    return {
        "round": median(seconds[1:]),
        "rest": total - sum(seconds),
        "digest": (folder / "digest.txt").read_text().strip(),
    }
