"""Spoken: generated text of a study's runs, before and after, as a part of its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.results import StudyResults

MOST_RUNS = 6
MOST_ROWS = 5
LONGEST = 200  # letters of a text in a table


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
    """Gold rewards stand behind the answers, where somebody knows them."""
    judged = "gold_before" in rows[0]
    keys = ("prompt", "before", "gold_before", "after", "gold_after")
    keys = keys if judged else ("prompt", "before", "after")
    heads = [key if not key.startswith("gold") else "gold" for key in keys]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(keys) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row[key]) for key in keys) + " |")
    return "\n".join(lines)


def _cell(word: Any) -> str:
    if not isinstance(word, str):
        return str(word)
    text = " ".join(word.split())
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    text = text.replace("|", "\\|").replace("`", "'")
    return f"`{text}`" if text else "(nothing)"


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """What a run wrote; a damaged or absent file is no reason to lose a report."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, json.JSONDecodeError):
        return []
