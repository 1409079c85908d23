"""Spoken: generated text of a study's runs, before and after, as a part of its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.results import StudyResults

MOST_RUNS = 6
MOST_ROWS = 5


def spoken(study: StudyResults) -> str:
    """Markdown: a table per run of the first seed that left samples.jsonl; "" where none did."""
    parts, first = [], min((cell.seed for cell in study.cells), default=0)
    for cell in study.cells:
        rows = _rows(cell.folder / "samples.jsonl") if cell.seed == first else []
        if rows and len(parts) < MOST_RUNS:
            where = ", ".join(f"{axis} = {value}" for axis, value in cell.axes.items())
            parts.append(f"### {where or study.name}\n\n{_table(rows[:MOST_ROWS])}")
    return "\n\n".join(["## Generated text", *parts]) if parts else ""


def _table(rows: list[Mapping[str, Any]]) -> str:
    """Gold rewards stand behind the answers."""
    lines = ["| prompt | before | gold | after | gold |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        words = (row["prompt"], row["before"], row["gold_before"], row["after"], row["gold_after"])
        lines.append("| " + " | ".join(_cell(word) for word in words) + " |")
    return "\n".join(lines)


def _cell(word: Any) -> str:
    text = str(word).replace("|", "\\|")
    return f"`{text}`" if isinstance(word, str) else text


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """What a run wrote; a damaged or absent file is no reason to lose a report."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, json.JSONDecodeError):
        return []
