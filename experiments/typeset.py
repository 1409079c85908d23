"""Table: rows once, typeset five ways, so that no two formats can disagree.

Markdown, LaTeX (booktabs), CSV and JSON are text with no clock in it: same table, same bytes.
The terminal form is a rich renderable; a table wider than the terminal is cut into bands.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING = "—"
LABEL_WIDTH, NAME_WIDTH = 34, 9  # columns of a terminal
PADDING, EDGE = 3, 2


@dataclass(frozen=True)
class Entry:
    """One cell. text: as printed. data: its numbers, e.g. {"mean": 95.1, "std": 0.2}. best: to be
    printed bold. notes: indices into the table's notes, from 1."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    best: bool = False
    notes: tuple[int, ...] = ()

    @staticmethod
    def of(value: Any, digits: int | None = None) -> Entry:
        """A plain value; numbers to `digits` after the point, four significant digits without."""
        if value is None:
            return Entry(MISSING)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Entry(str(value), {"value": value})
        if not math.isfinite(value):
            return Entry("n/a" if math.isnan(value) else str(value), {"value": value})
        if digits is None:
            return Entry(
                f"{value:.4g}" if isinstance(value, float) else str(value), {"value": value}
            )
        return Entry(number(value, digits), {"value": value})


def number(value: float, digits: int) -> str:
    """Fixed point without a minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


@dataclass(frozen=True)
class Table:
    """name: its file name. header: (c,) column names. rows: (r, c) entries; the first `labels`
    columns name the row. command: what makes the table again."""

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    notes: Sequence[str] = ()
    labels: int = 1
    command: str = ""

    def markdown(self) -> str:
        """A pipe table, its caption above and its footnotes below."""
        lines = [f"**{self.caption}**", "", _pipe(self.header)]
        lines.append(_pipe(["---" if i < self.labels else "--:" for i in range(len(self.header))]))
        lines += [_pipe([_marked(e, "**{}**") for e in row]) for row in self.rows]
        notes = [f"[{i}] {_plain(note)}" for i, note in enumerate(self.notes, 1)]
        if self.command:
            notes.append(f"Reproduce: `{self.command}`")
        return "\n".join([*lines, *(line for note in notes for line in ("", note))]) + "\n"

    def latex(self) -> str:
        """A booktabs table to \\input; needs booktabs, graphicx and the T1 encoding."""
        columns = "l" * self.labels + "r" * (len(self.header) - self.labels)
        notes = [f"\\textsuperscript{{{i}}} {_tex(note)}" for i, note in enumerate(self.notes, 1)]
        how = f" Reproduce: \\texttt{{{_tex(self.command)}}}." if self.command else ""
        lines = [
            "% \\usepackage[T1]{fontenc} \\usepackage{booktabs} \\usepackage{graphicx}",
            "\\begin{table*}[t]",
            "\\centering",
            f"\\caption{{{_tex(self.caption)}{how}}}",
            f"\\label{{tab:{re.sub('[^A-Za-z0-9]+', '-', self.name)}}}",
            "\\resizebox{\\linewidth}{!}{%",
            f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            "\\toprule",
            " & ".join(map(_tex, self.header)) + " \\\\",
            "\\midrule",
            *(" & ".join(map(_tex_entry, row)) + " \\\\" for row in self.rows),
            "\\bottomrule",
            "\\end{tabular}}",
            *(f"\\par\\smallskip{{\\footnotesize {note}}}" for note in notes),
            "\\end{table*}",
        ]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Numbers at full precision: a column `x` of statistics becomes `x mean`, `x std` ..."""
        fields = [_fields(column) for column in zip(*self.rows, strict=True)]
        fields = fields or [("value",)] * len(self.header)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            [
                name if field == "value" else f"{name} {field}"
                for name, column in zip(self.header, fields, strict=True)
                for field in column
            ]
        )
        for row in self.rows:
            writer.writerow(
                [
                    _raw(e, f, i)
                    for e, column in zip(row, fields, strict=True)
                    for i, f in enumerate(column)
                ]
            )
        return out.getvalue()

    def json(self) -> str:
        """Everything: texts, numbers, which is best, notes."""
        rows = [
            [
                {"text": e.text, **{k: _finite(v) for k, v in e.data.items()}}
                | ({"best": True} if e.best else {})
                | ({"notes": list(e.notes)} if e.notes else {})
                for e in row
            ]
            for row in self.rows
        ]
        whole = {
            "name": self.name,
            "caption": self.caption,
            "command": self.command,
            "header": list(self.header),
            "rows": rows,
            "notes": list(self.notes),
        }
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def terminal(self, width: int = 110) -> Any:
        """A rich renderable at most `width` columns wide where a label and one column fit."""
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(self.caption, style="bold")]
        parts += [self._band(band) for band in _bands(self, width)]
        parts += [
            Text(f"[{i}] {_plain(note)}", style="dim") for i, note in enumerate(self.notes, 1)
        ]
        return Group(*parts)

    def _band(self, columns: Sequence[int]) -> Any:
        from rich import box
        from rich.table import Table as Rich
        from rich.text import Text

        rich = Rich(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for i in columns:
            label = i < self.labels
            rich.add_column(
                Text(self.header[i] if label else _folded(self.header[i])),
                justify="left" if label else "right",
                no_wrap=not label,
                max_width=LABEL_WIDTH if label else None,
            )
        for row in self.rows:
            cells = [(row[i], _marked(row[i], "{}")) for i in columns]
            rich.add_row(*(Text(text, style="bold green" if e.best else "") for e, text in cells))
        return rich


def _marked(entry: Entry, bold: str) -> str:
    text = bold.format(entry.text) if entry.best else entry.text
    return text + "".join(f" [{n}]" for n in entry.notes)


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    return " ".join(str(text).split())


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "—": "---", "\u00d7": r"$\times$", "\u2218": r"$\circ$",
    "≥": r"$\geq$", "≤": r"$\leq$",
    "<": r"$<$", ">": r"$>$", "|": r"$|$",
}  # fmt: skip


def _tex(text: str) -> str:
    """Escaped; what stands between backticks is typewriter text with straight quotes."""
    parts = ["".join(_TEX.get(x, x) for x in part) for part in _plain(text).split("`")]
    code = ["\\texttt{" + part.replace("'", "\\textquotesingle{}") + "}" for part in parts[1::2]]
    return "".join(code[i // 2] if i % 2 else part for i, part in enumerate(parts))


def _tex_entry(entry: Entry) -> str:
    marks = f"\\textsuperscript{{{','.join(map(str, entry.notes))}}}" if entry.notes else ""
    if re.fullmatch(r"-?[\d.]+(±[\d.]+)?", entry.text):
        number = entry.text.replace("±", r" \pm ")
        return (f"$\\mathbf{{{number}}}$" if entry.best else f"${number}$") + marks
    text = _tex(entry.text)
    return (f"\\textbf{{{text}}}" if entry.best else text) + marks


def _fields(column: Sequence[Entry]) -> tuple[str, ...]:
    """The data fields of a column's entries, in order of first appearance."""
    return tuple(dict.fromkeys(f for e in column for f in e.data)) or ("value",)


def _raw(entry: Entry, field: str, position: int) -> Any:
    if field in entry.data:
        value = entry.data[field]
        return "" if isinstance(value, float) and math.isnan(value) else value
    return entry.text if not entry.data and position == 0 and entry.text != MISSING else ""


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _folded(name: str) -> str:
    """Column names cut after `_`, `+`, `/` or a space so that they stay narrow."""
    lines = [""]
    for part in re.findall(r"[^_+/ ]*[_+/ ]?", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > NAME_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _bands(table: Table, width: int) -> list[list[int]]:
    """Columns that fit side by side, the labels repeated in each band; bands equally full."""
    labels, columns = list(range(table.labels)), list(range(table.labels, len(table.header)))
    room = width - EDGE - sum(_width(table, i) + PADDING for i in labels)
    fewest = len(_cut(table, columns, room, len(columns)))
    even = math.ceil(len(columns) / max(1, fewest))
    return [[*labels, *band] for band in _cut(table, columns, room, even)] or [labels]


def _cut(table: Table, columns: Sequence[int], room: int, most: int) -> list[list[int]]:
    bands: list[list[int]] = []
    left = 0
    for i in columns:
        need = _width(table, i) + PADDING
        if not bands or need > left or len(bands[-1]) == most:
            bands.append([])
            left = room
        bands[-1].append(i)
        left -= need
    return bands


def _width(table: Table, column: int) -> int:
    head = table.header[column]
    cells = [len(_marked(row[column], "{}")) for row in table.rows]
    if column < table.labels:
        return min(LABEL_WIDTH, max([len(head), *cells]))
    return max([*(len(line) for line in _folded(head).split("\n")), *cells])
