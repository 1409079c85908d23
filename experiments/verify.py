"""`fedalign chain verify FOLDER`: replay logs, compute aggregates again, name the first lie.

Checked per run: every line of the log links to the one before; the config hashes to the folder's
name; the server's secret is the one promised in the first line; digest, tables and final payload
follow from the log; and every aggregate whose inputs were kept comes out bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from yaml import YAMLError

from experiments import kept, plan, run_folder, verify_chain
from experiments.build import build
from fedalign.core import memory
from fedalign.core.digest import of_tensor
from fedalign.core.errors import FedalignError, IntegrityError
from fedalign.core.log import read
from fedalign.core.seeds import derive
from fedalign.core.vectors import Layout


@dataclass(frozen=True)
class Account:
    """What was checked: runs, rounds in their logs, aggregates computed again, sealed blocks."""

    runs: int = 0
    rounds: int = 0
    recomputed: int = 0
    unfinished: int = 0
    blocks: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


def main(folder: Path) -> int:
    """Verify a study or one run; prints what was checked. Exit code 1 at the first lie."""
    try:
        account = verify(folder)
    except IntegrityError as lie:
        print(f"NOT VERIFIED: {lie}")
        return 1
    rest = account.rounds - account.recomputed
    print(
        f"Verified {account.runs} runs: {account.rounds} rounds link, digests and tables follow "
        f"from the logs; {account.recomputed} aggregates were computed again and are equal"
        + (
            f", {rest} could not be (their inputs were not kept; keep=all keeps them)"
            if rest
            else ""
        )
        + (f"; {account.blocks} sealed blocks replay" if account.blocks else "")
        + (f"; {account.unfinished} runs are unfinished" if account.unfinished else "")
        + "."
    )
    return 0


def verify(folder: Path) -> Account:
    """Raise IntegrityError at the first thing that does not follow from the logs."""
    logs = sorted(folder.glob("events.jsonl")) or sorted(folder.glob("*/events.jsonl"))
    if not logs:
        raise IntegrityError(f"{folder} holds no run: no events.jsonl in it or one level below.")
    torch.set_num_threads(1)
    account = Account()
    for log in logs:
        account += _readable(log.parent)
    return account


def _readable(folder: Path) -> Account:
    """The run's account; a file that no longer says anything sensible is a lie too."""
    try:
        return _run(folder)
    except IntegrityError:
        raise
    except (FedalignError, YAMLError, ValueError, LookupError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise IntegrityError(f"{folder}: a file is damaged or missing: {reason}") from error


def _run(folder: Path) -> Account:
    if not (folder / "digest.txt").is_file():
        list(read(folder / "events.jsonl"))
        return Account(unfinished=1)
    lines = [body for body, _ in read(folder / "events.jsonl")]
    events = [body for body in lines if body["event"] != "incident"]
    begin, *rounds, end = events
    _expect(begin["event"] == "begin" and end["event"] == "end", folder, "its log has no end")
    config = run_folder.load_yaml(folder / "config.yaml")
    _expect(begin["config"] == config, folder, "config.yaml is not the config of its log")
    _expect(
        [e["round"] for e in rounds] == list(range(1, len(rounds) + 1)), folder, "rounds missing"
    )
    secret = bytes.fromhex(end["secret"])
    promised = hashlib.sha256(secret).hexdigest() == begin["secret_sha256"]
    _expect(promised, folder, "the server's secret is not the one promised in the first line")
    said = (folder / "digest.txt").read_text().strip()
    _expect(said == run_folder.digest(rounds), folder, "digest.txt does not follow from its log")
    table = (folder / "rounds.csv").read_text()
    _expect(
        table == run_folder.rounds_table(rounds), folder, "rounds.csv does not follow from its log"
    )
    payload = memory.read(folder / "payload.safetensors")
    layout = Layout.of({name: tensor.shape for name, tensor in payload.items()})
    final = of_tensor(layout.flatten(payload))
    _expect(
        final == end["model"] == _model(events, -2), folder, "the payload is not the last model"
    )
    _draws(folder, rounds, secret)
    paths = sorted(folder.glob("kept/round_*.safetensors"))
    inputs = {int(path.stem.removeprefix("round_")): memory.read(path) for path in paths}
    for number, seen in inputs.items():
        _aggregate(folder, number, seen, config, secret, events, layout)
    blocks = verify_chain.blocks(folder, config, events, inputs, layout)
    return Account(1, len(rounds), len(inputs), blocks=blocks)


def _aggregate(
    folder: Path,
    number: int,
    inputs: Mapping[str, Any],
    config: Mapping[str, Any],
    secret: bytes,
    events: list[Mapping[str, Any]],
    layout: Layout,
) -> None:
    """The rule once more on its kept inputs."""
    event, per_round = events[number], config["topology"]["edge_rounds"]
    for group, seen in inputs.get("groups", {"0": inputs}).items():
        if group == "global" and "chain" in event:
            continue  # the servers' own arithmetic: see verify_chain
        flat = "groups" not in inputs
        said = event if flat else event["meeting"] if group == "global" else event["edges"][group]
        where = f"round {number}" + ("" if flat else f", {_group(group)}")
        first = flat or group == "global" or per_round == 1
        start = _model(events, number - 1) if first else said["start"]
        started = of_tensor(seen["model"]) == start
        _expect(started, folder, f"{where} did not start from the model of the round before")
        same = seen["clients"].tolist() == said["clients"]
        _expect(same, folder, f"{where}: other clients")
        rule = build(config["global_defense"]) if group == "global" else plan.rule(config)
        edge, round = (group, number) if group == "global" else (int(group), number * per_round)
        _expect(
            _follows(config, rule, seen, said, layout, round, derive(secret, "rule", round, edge)),
            folder,
            f"the aggregate of {where} is not what the rule gives",
        )


def _group(group: str) -> str:
    return "edges together" if group == "global" else f"edge {group}"


def _follows(
    config: Mapping[str, Any],
    rule: Any,
    inputs: Mapping[str, Any],
    said: Mapping[str, Any],
    layout: Layout,
    round: int,
    rng: np.random.Generator,
) -> bool:
    if said["skipped"] and "skipped" in said["notes"]:
        return True
    again = rule(inputs["rows"], kept.context(config, rule, inputs, layout, round, rng))
    same = of_tensor(again.vector) == said["aggregate"]
    return same and again.accepted.int().tolist() == said["accepted"]


def _draws(folder: Path, rounds: list[Mapping[str, Any]], secret: bytes) -> None:
    """Every draw of a black-box server follows from the secret and the stated probabilities."""
    for event in rounds:
        notes = event["notes"]
        if "uniform_draw" not in notes:
            continue
        number = float(derive(secret, "rule", event["round"], 0).random())
        borders = np.cumsum(notes["probabilities"])
        rule = min(int(np.searchsorted(borders, number, side="right")), len(borders) - 1)
        fair = number == notes["uniform_draw"] and rule == notes["drawn"]
        _expect(fair, folder, f"the rule of round {event['round']} is not the one that was drawn")


def _model(events: list[Mapping[str, Any]], index: int) -> str:
    return events[index]["model"]


def _expect(holds: bool, folder: Path, lie: str) -> None:
    if not holds:
        raise IntegrityError(f"{folder}: {lie}.")
