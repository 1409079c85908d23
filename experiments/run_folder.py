"""One run's folder: what is written, in which order, so that nothing is ever half-written.

events.jsonl grows line by line; everything else is written aside and renamed. `digest.txt` comes
last: a folder that has it is finished.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from consensus.costs import Energy
from fedalign.core import memory
from fedalign.core.contracts import Runtime, State
from fedalign.core.digest import of_data
from fedalign.core.log import Log, read

COLUMNS = (
    "round", "accuracy", "loss", "attack_success", "malicious_sent", "malicious_accepted",
    "benign_sent", "benign_accepted", "malicious_weight", "nonfinite", "failed", "skipped",
    "paid", "paid_malicious", "pay_spearman", "clock_s", "joules",
    "arrived", "missing",
    "train_s", "craft_s", "aggregate_s", "evaluate_s",
)  # fmt: skip
CHAIN_COLUMNS = (
    "leader", "led_by_liar", "overturned", "signers", "strikes", "aborted", "server_pay", "liars_pay", "messages", "control_bytes",
    "model_bytes", "consensus_cpu_s", "consensus_s", "consensus_joules",
)  # fmt: skip
STREAMED_COLUMNS = ("samples", "train_loss", "peak_rss_mb", "whole_s")
COSTS = ("messages", "bytes", "model_bytes", "cpu_s", "latency_s")


class RunFolder:
    """Files of one run below `path`. Opening it resumes from the last checkpoint, if there is one
    of the same code; else what is there is cleared."""

    def __init__(self, path: Path, config: Mapping[str, Any], environment: Mapping[str, Any]):
        self.path, self._config = path, config
        self.events = path / "events.jsonl"
        self.checkpoint = _latest(path / "checkpoint")
        if self.checkpoint is not None and _source(path) != environment.get("source"):
            self.checkpoint = None
        if self.checkpoint is None:
            shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, exist_ok=True)
        write(path / "config.yaml", dump_yaml(config))
        write(path / "environment.json", json.dumps(environment, indent=1, sort_keys=True) + "\n")
        length = self._progress()["length"] if self.checkpoint else None
        self.log = Log(self.events, length)

    def restore(self, runtime: Runtime) -> State | None:
        """The state of the last checkpoint, and the client memories back into the runtime."""
        if self.checkpoint is None:
            return None
        runtime.load(self.checkpoint)
        saved = memory.read(self.checkpoint / "state.safetensors")
        return State(
            saved["round"], saved["model"], saved["previous"], saved["clock_s"], saved["memory"]
        )

    def save(self, state: State, runtime: Runtime) -> None:
        """A checkpoint: written aside, synced, renamed; the one before goes afterwards."""
        self.log.sync()
        folder = self.path / "checkpoint"
        aside, final = folder / f".{state.round}", folder / str(state.round)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        memory.write(aside / "state.safetensors", vars(state), durable=True)
        runtime.save(aside)
        write(aside / "progress.json", json.dumps({"length": self.log.length}), durable=True)
        os.replace(aside, final)
        for old in folder.iterdir():
            if old != final:
                shutil.rmtree(old)

    def keep(self, round: int, inputs: Mapping[str, Any]) -> None:
        """The inputs of the rule in one round, so that `verify` can compute it again."""
        folder = self.path / "kept"
        folder.mkdir(exist_ok=True)
        memory.write(folder / f"round_{round:05d}.safetensors", inputs)

    def speak(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """samples.jsonl: generated text, one line per prompt."""
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write(self.path / "samples.jsonl", "".join(lines))

    def finish(self, model: torch.Tensor, layout: Any) -> None:
        """Tables from the log, the final payload, and last of all the digest."""
        self.log.close()
        events = [body for body, _ in read(self.events)]
        rounds = [event for event in events if event["event"] == "round"]
        write(self.path / "rounds.csv", rounds_table(rounds))
        raw = _csv(_CLIENT_COLUMNS, _client_rows(rounds)).encode()
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=1) as file:
            file.write(raw)
        write(self.path / "clients.csv.gz", packed.getvalue())
        memory.write(self.path / "payload.safetensors", layout.views(model))
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)
        write(self.path / "digest.txt", digest(rounds) + "\n")

    def _progress(self) -> Mapping[str, Any]:
        return json.loads((self.checkpoint / "progress.json").read_text())


_CLIENT_COLUMNS = (
    "round",
    "client",
    "malicious",
    "accepted",
    "coefficient",
    "samples",
    "bytes",
    "effort",
    "payment",
)


def digest(rounds: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over the model digests and metrics of all rounds; no clocks in it."""
    return of_data([[event["round"], event["model"], event["metrics"]] for event in rounds])


def rounds_table(rounds: Sequence[Mapping[str, Any]]) -> str:
    """rounds.csv, from the log alone."""
    more = sorted({name for event in rounds for name in event["metrics"]} - {*COLUMNS})
    phases = dict.fromkeys(p for event in rounds for p in event.get("chain", {}).get("costs", ()))
    parts = [f"{phase}.{what}" for phase in phases for what in COSTS]
    let_go = STREAMED_COLUMNS if any("streamed" in event for event in rounds) else ()
    columns = (*COLUMNS, *more, *let_go, *(CHAIN_COLUMNS if phases else ()), *parts)
    return _csv(columns, (_row(event, columns) for event in rounds))


def finished(path: Path) -> bool:
    """Whether a folder holds a run that came to its end."""
    return (path / "digest.txt").is_file()


def same_code(path: Path, source: str) -> bool:
    """Whether a run was made by our present sources."""
    return _source(path) == source


def write(path: Path, content: str | bytes, durable: bool = False) -> None:
    """Write aside, then rename: readers see the old file or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.tmp")
    with open(aside, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(aside, path)


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their own order."""
    return yaml.dump(
        dict(data), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False
    )


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of plain data."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


def _source(path: Path) -> str | None:
    try:
        return json.loads((path / "environment.json").read_text())["source"]
    except (OSError, ValueError, KeyError):
        return None


def _latest(folder: Path) -> Path | None:
    done = [path for path in folder.glob("[0-9]*") if (path / "progress.json").is_file()]
    return max(done, key=lambda path: int(path.name), default=None)


def _row(event: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    payments = event["payments"]
    paid = dict(zip(payments["accounts"], payments["amounts"], strict=True))
    values = {
        **event["metrics"],
        **event["counts"],
        "round": event["round"],
        "malicious_weight": event["malicious_weight"],
        "paid": payments["total"],
        "paid_malicious": sum(paid.get(client, 0) for client in event["attackers"]),
        "pay_spearman": _known(payments["notes"].get("spearman")),
        "clock_s": event["clock_s"],
        "nonfinite": len(event["nonfinite"]),
        "failed": len(event["failed"]),
        "joules": event["joules"],
        "arrived": len(event["clients"]),
        "missing": len(event["missing"]),
        "skipped": int(event["skipped"]),
        **{f"{name}_s": seconds for name, seconds in event["seconds"].items()},
    }
    values |= _chain_row(event["chain"]) if "chain" in event else {}
    values |= event.get("streamed", {})
    return [values.get(column, "nan") for column in columns]


def _chain_row(chain: Mapping[str, Any]) -> dict[str, Any]:
    costs, liars = chain["costs"], chain["liars"]
    total = {what: sum(cost[what] for cost in costs.values()) for what in COSTS}
    honest = [vote for voter, vote in chain["votes"].items() if int(voter) not in liars]
    favourite = max(sorted(set(honest)), key=honest.count, default=chain["leader"])
    return {
        "leader": chain["leader"],
        "led_by_liar": int(chain["leader"] in liars),
        "overturned": int(chain["leader"] != favourite),
        "signers": len(chain["signers"]),
        "strikes": len(chain["strikes"]),
        "aborted": chain["aborted"],
        "server_pay": sum(chain["rewards"].values()),
        "liars_pay": sum(chain["rewards"].get(str(server), 0) for server in liars),
        "messages": total["messages"],
        "control_bytes": total["bytes"],
        "model_bytes": total["model_bytes"],
        "consensus_cpu_s": total["cpu_s"],
        "consensus_s": total["latency_s"],
        "consensus_joules": Energy().joules(
            total["cpu_s"] + chain["miners"] * total["latency_s"],
            total["bytes"] + total["model_bytes"],
        ),
        **{f"{phase}.{what}": cost[what] for phase, cost in costs.items() for what in COSTS},
    }


def _known(value: float | None) -> float | str:
    return "nan" if value is None else value


def _client_rows(rounds: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    rows = []
    for event in rounds:
        coefficients = event["coefficients"] or [""] * len(event["clients"])
        effort = event["effort"] or [""] * len(event["clients"])
        payments = event["payments"]
        paid = dict(zip(payments["accounts"], payments["amounts"], strict=True))
        for i, client in enumerate(event["clients"]):
            rows.append([
                event["round"], client, int(client in event["attackers"]), event["accepted"][i],
                coefficients[i], event["samples"][i], event["bytes"], effort[i],
                paid.get(client, 0),
            ])  # fmt: skip
    return rows


def _csv(header: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
