"""Small studies made up for the tests: every number is chosen, none is measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from experiments.results import CellResult, StudyResults

ROUNDS = 5
COLUMNS = (
    "round", "accuracy", "loss", "attack_success", "malicious_sent", "malicious_accepted",
    "benign_sent", "benign_accepted", "malicious_weight", "nonfinite", "failed", "skipped",
    "train_s", "craft_s", "aggregate_s", "evaluate_s",
)  # fmt: skip


def rounds(accuracy, **columns):
    """accuracy in 0..1, one per round, or one for all; the other columns likewise."""
    length = len(accuracy) if np.ndim(accuracy) else ROUNDS
    whole = {
        "round": np.arange(1, length + 1), "accuracy": accuracy, "loss": 0.5,
        "malicious_sent": 4, "malicious_accepted": 1, "benign_sent": 16, "benign_accepted": 16,
        "malicious_weight": 0.05, "nonfinite": 0, "failed": 0, "skipped": 0, "train_s": 0.004,
        "craft_s": 0.002, "aggregate_s": 0.001, "evaluate_s": 0.001,
    } | columns  # fmt: skip
    return {k: np.broadcast_to(np.asarray(v, float), (length,)).copy() for k, v in whole.items()}


def cell(
    axes, seed=0, accuracy=0.9, status="done", reason="", config=None, space=None, choices=None,
    **columns,
):  # fmt: skip
    name = "-".join([*map(str, axes.values()), f"s{seed}"]).replace("/", "_")
    return CellResult(
        run_id=name,
        folder=Path("nowhere") / name,
        axes=axes,
        seed=seed,
        status=status,
        reason=reason,
        config={"clients": 20, "rounds": ROUNDS, "attack_start": 1} | (config or {}),
        rounds=rounds(accuracy, **columns) if status == "done" else {},
        facts={"space": space} if space else {},
        choices={
            **(choices or {}),
            **{k: v for k, v in axes.items() if k in ("attack", "defense")},
        },
    )


def study(cells, axes=None, folder="nowhere", name="made_up"):
    if axes is None:
        axes = {}
        for one in cells:
            for axis, value in one.axes.items():
                axes.setdefault(axis, []).append(value)
        axes = {axis: tuple(dict.fromkeys(values)) for axis, values in axes.items()}
    return StudyResults(name, Path(folder), axes, tuple(cells))


def grid(table, seeds=(0,), spaces=None, spread=0.0, **more):
    """A study from {defense: {attack: accuracy in % or (accuracy, columns)}}; seed s adds
    s * spread points."""
    cells = []
    for defense, row in table.items():
        for attack, value in row.items():
            percent, columns = value if isinstance(value, tuple) else (value, {})
            cells += [
                cell(
                    {"attack": attack, "defense": defense},
                    seed,
                    (percent + spread * seed) / 100.0,
                    space=(spaces or {}).get(defense),
                    **{**more, **columns},
                )
                for seed in seeds
            ]
    return study(cells)


def put_on_disk(folder, made, **extra):
    """Write a study the way a run leaves it, so that `load` can read it back."""
    entries = []
    for one in made.cells:
        entries.append(
            {
                "run_id": one.run_id, "axes": dict(one.axes), "seed": one.seed,
                "status": one.status, "reason": one.reason, "facts": dict(one.facts),
                "config": dict(one.config), "choices": dict(one.choices),
            }
        )  # fmt: skip
        if one.status == "done":
            (folder / one.run_id).mkdir(parents=True, exist_ok=True)
            columns = [name for name in COLUMNS if name in one.rounds]
            lines = [",".join(columns)] + [
                ",".join("" if np.isnan(v) else repr(float(v)) for v in row)
                for row in zip(*(one.rounds[name] for name in columns), strict=True)
            ]
            (folder / one.run_id / "rounds.csv").write_text("\n".join(lines) + "\n")
    whole = {"name": made.name, "axes": {k: list(v) for k, v in made.axes.items()}}
    (folder / "study.json").write_text(json.dumps(whole | {"cells": entries} | extra))
    return folder
