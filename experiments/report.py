"""Report: everything a study prints, written into its folder.

`report.md`, `results.csv` (long format), `tables/*.{md,tex,csv,json}`, `figures/*.{pdf,png}`.
What is shown is asked for by the `report` node of study.json; all its keys are optional: title,
main {rows, columns, metric}, tables [names], figures [names], sweep [metrics of the sweep figures],
claims, and for measurements pool {by: [columns], over: seed, worst: [columns], legend: {table: words}}. A table's name is
main, long, summary, ratios, oneshot, blackbox, detection, alignment, against, phases, overoptimisation or a metric.
Where runs left generated text (samples.jsonl), it is shown before and after training.
Files are written aside and renamed; writing twice changes nothing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.blackbox import BlackBox
from experiments.claims import Checked, check, counts
from experiments.gallery import draw, file_name
from experiments.metrics import METRICS
from experiments.paired import Against
from experiments.per_defense import Ratios, Summary
from experiments.phases import phases
from experiments.pooled import pooled
from experiments.recovery import Recovery
from experiments.results import StudyResults, manifest
from experiments.spoken import spoken
from experiments.statistics import is_faker
from experiments.tables import Long, Matrix, external, several
from experiments.traces import is_trace
from experiments.typeset import Entry, Table
from fedalign.core.errors import DataError, UnknownNameError

DETECTION = ("tpr", "fpr", "weight")
ALIGNMENT = (
    "gold_reward", "gold_gain", "win_rate", "win_low", "win_high", "kl_ref", "accuracy",
    "payload_bytes", "length_mean", "eos_rate", "over_refusal", "harmful_compliance", "attack_success", "success_clean",
)  # fmt: skip
OVEROPTIMISATION = (
    "gold_peak", "peak_distance", "distance", "gold_drop", "gold_reward", "proxy_reward", "alpha",
    "beta",
)  # fmt: skip
STATES = ("done", "measured", "failed", "missing")
NAMED = ("main", "long", "summary", "ratios", "oneshot", "blackbox", "detection", "alignment",
         "against", "phases", "overoptimisation")  # fmt: skip
TABLES = ("damage", "tpr", "fpr", "weight", "attack_success", "craft_ms")  # where measured


def write(study: StudyResults) -> Path:
    """Write all of it; returns the path of report.md."""
    found = _manifest(study)
    node, title = found.get("report") or {}, found.get("title")
    tables = [replace(table, command=_command(study, found)) for table in _tables(study, found)]
    for table in tables:
        for ending in ("md", "tex", "csv", "json"):
            text = {"md": table.markdown, "tex": table.latex, "csv": table.csv, "json": table.json}
            _write(study.folder / "tables" / f"{file_name(table.name)}.{ending}", text[ending]())
    _write(study.folder / "results.csv", _long_format(study))
    drawn = draw(study, node)
    asked = node.get("claims")
    judged = check(study, asked) if asked and study.cells else []
    parts = [
        f"# {node.get('title') or title or study.name}",
        _state(study),
        f"```\n{_command(study, found)}\n```",
        _environment(study.folder),
        *(_section(table) for table in tables),
        *(_picture(name) for name in drawn),
        spoken(study),
        _checklist(judged, asked),
    ]
    path = study.folder / "report.md"
    _write(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def main_tables(study: StudyResults) -> list[Table]:
    """What the command line prints when a study ends: its main table, one per panel."""
    found = _manifest(study)
    return [replace(t, command=_command(study, found)) for t in _main(study, found)]


def _manifest(study: StudyResults) -> Mapping[str, Any]:
    try:
        return manifest(study.folder)
    except DataError:
        return {}


def _command(study: StudyResults, found: Mapping[str, Any]) -> str:
    return found.get("command") or f"python run_experiment.py scenario={study.name}"


# ---------------------------------------------------------------- tables


def _main(study: StudyResults, found: Mapping[str, Any]) -> list[Table]:
    rows = [row for row in found.get("rows") or () if not is_trace(row)]
    if rows:
        return _measured(rows, found.get("report") or {}, study.name)
    return _matrix(study, found, "main")


def _measured(rows: Sequence[Mapping[str, Any]], node: Mapping[str, Any], name: str) -> list[Table]:
    """Rows of measurements, one table per value of `table`; pooled where the report says so."""
    caption, parts = node.get("title") or name, {}
    for row in rows:
        parts.setdefault(row.get("table", "main"), []).append(_without(row, "table"))
    pool = node.get("pool")
    if not pool:
        return [external(part, table, caption) for table, part in parts.items()]
    by, over, worst = pool["by"], pool["over"], pool.get("worst", ())
    legend = {table: pool.get("legend", {}).get(table, "") for table in parts}
    return [
        replace(made, caption=f"{made.caption.rstrip('.')}. {legend[table]}".strip())
        for table, part in parts.items()
        for made in [pooled(part, by, over, worst, table, caption)]
    ]


def _matrix(study: StudyResults, found: Mapping[str, Any], name: str, *metrics: str) -> list[Table]:
    """Laid out as the main table; where the study lacks these axes, defense by attack or a list."""
    asked = dict((found.get("report") or {}).get("main") or {})
    if metrics:
        asked |= {"metric": metrics, "direction": None}
    if not metrics and "metric" in asked and "columns" not in asked:
        return Long(tuple(several(asked["metric"])))(study, name)
    for matrix in (Matrix(**asked), Matrix(metric=asked.get("metric", "accuracy"))):
        if matrix.fits(study):
            return matrix(study, name)
    wanted = several(asked["metric"]) if "metric" in asked else ()
    long = Long(wanted) if wanted else Long()
    return long(study, name) if study.cells else []


def _without(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def _tables(study: StudyResults, found: Mapping[str, Any]) -> list[Table]:
    tables = _main(study, found)
    asked = (found.get("report") or {}).get("tables")
    grid = {"defense", "attack"} <= set(study.axes)
    if asked is None and (not grid or not study.cells):
        return tables
    for name in ("summary", "ratios", *TABLES) if asked is None else asked:
        if name == "main":
            continue
        made = _named_table(study, name, found)
        tables += made if asked is not None else [t for t in made if _says_something(t)]
    return tables


def _named_table(study: StudyResults, name: str, found: Mapping[str, Any]) -> list[Table]:
    if name == "long":
        return Long()(study, name)
    if name == "alignment":
        return Long(ALIGNMENT)(study, name)
    if name == "overoptimisation":
        return Long(OVEROPTIMISATION)(study, name)
    if name == "summary":
        return Summary()(study)
    if name == "ratios":
        fakers = any(map(is_faker, study.axes.get("attack", ())))
        return Ratios()(study) if fakers else []
    if name == "against":
        return Against()(study)
    if name == "phases":
        return phases(study)
    if name == "oneshot":
        return Recovery()(study)
    if name == "blackbox":
        return BlackBox(_command(study, found))(study)
    if name == "detection":
        return _matrix(study, found, name, *DETECTION)
    if name not in METRICS:
        raise UnknownNameError("table", name, [*NAMED, *METRICS])
    return _matrix(study, found, name, name)


def _says_something(table: Table) -> bool:
    def measured(entry: Entry) -> bool:
        return any(isinstance(v, int | float) and np.isfinite(v) for v in entry.data.values())

    return any(measured(e) for row in table.rows for e in row[table.labels :])


def _long_format(study: StudyResults) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*study.axes, "seed", "metric", "value"])
    for cell in study.cells:
        where = [*(cell.axes.get(axis, "") for axis in study.axes), cell.seed]
        writer.writerow([*where, "done", int(cell.status == "done")])
        measured = {name: metric(cell) for name, metric in METRICS.items()}
        writer.writerows([*where, n, v] for n, v in measured.items() if not np.isnan(v))
    return out.getvalue()


# ---------------------------------------------------------------- text


def _state(study: StudyResults) -> str:
    count = {s: sum(c.status == s for c in study.cells) for s in STATES}
    if not study.cells:
        return ""
    axes = ", ".join(f"{len(values)} x {axis}" for axis, values in study.axes.items())
    seeds = len({cell.seed for cell in study.cells})
    return (
        f"{len(study.cells)} runs ({', '.join(filter(None, [axes, f'{seeds} x seed']))}): "
        + ", ".join(f"{n} {status}" for status, n in count.items() if n)
        + "."
    )


def _environment(folder: Path) -> str:
    lines = []
    try:
        found = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        lines = [f"- {key}: {_told(value)}" for key, value in found.items() if key != "command"]
    except (FileNotFoundError, json.JSONDecodeError):
        pass
    if (folder / "digest.txt").exists():
        digest = (folder / "digest.txt").read_text(encoding="utf-8").strip()
        lines.append(f"- result digest: `{digest}`")
    return "\n".join(["Environment:", "", *lines]) if lines else ""


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_told(v)}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _section(table: Table) -> str:
    files = ", ".join(
        f"[{ending}](tables/{file_name(table.name)}.{ending})" for ending in ("tex", "csv", "json")
    )
    body = replace(table, command="").markdown()
    return f"## {_heading(table.name)}\n\n{body}\n{files}"


def _picture(name: str) -> str:
    return (
        f"## Figure: {_heading(name)}\n\n![{_heading(name)}](figures/{name}.png)\n\n"
        f"[pdf](figures/{name}.pdf)"
    )


def _checklist(judged: Sequence[Checked], asked: str | Sequence[str] | None) -> str:
    if not judged:
        return ""
    lines = [
        "## Claims",
        "",
        f"What papers and we ourselves say, judged on this study's numbers. {counts(asked)}",
        "",
        "| | claim | verdict | numbers of this study | who says so |",
        "| --- | --- | --- | --- | --- |",
    ]
    sign = {"holds": "[x]", "does not hold": "[ ]", "not measured here": "n/a"}
    for checked in judged:
        claim, verdict = checked.claim, checked.verdict
        where = "".join(f" ({axis} = {value})" for axis, value in checked.where.items())
        lines.append(
            f"| {sign[verdict.outcome]} | {claim.sentence}{where} | **{verdict.outcome}** "
            f"| {verdict.evidence.replace('|', chr(92) + '|')} | {claim.source} |"
        )
    count = {o: sum(c.verdict.outcome == o for c in judged) for o in sign}
    lines += ["", ", ".join(f"{n} {outcome}" for outcome, n in count.items()) + "."]
    return "\n".join(lines)


HEADINGS = {
    "main": "Main table",
    "summary": "Worst case per defense",
    "ratios": "Faker against the best other attack",
    "damage": "Damage since the attack began",
    "tpr": "Detection: malicious rows rejected",
    "fpr": "Detection: benign rows rejected",
    "weight": "Weight of malicious rows",
    "attack_success": "Attack success",
    "craft_ms": "Crafting time",
    "oneshot": "Recovery",
    "against": "Against the other rules, seed by seed",
    "blackbox": "A server that draws its rule",
    "alignment": "What the aligned models say and are worth",
    "curves": "Accuracy over rounds",
    "heatmap": "Attack x defense",
    "detection": "What the rules accept and reject",
    "partition": "Who holds what",
    "overoptimisation": "Gold reward against distance from the base model",
    "reaction": "What the owner earns and what clients do, over one price",
    "contest": "A miner's best answer to all others",
}


def _heading(name: str) -> str:
    kind, *fixed = name.split("__")
    if kind.startswith("sweep_"):
        words = f"Sweep of {kind.removeprefix('sweep_')}"
    else:
        words = HEADINGS.get(kind) or kind.replace("_", " ").capitalize()
    return f"{words} ({', '.join(fixed)})" if fixed else words


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
