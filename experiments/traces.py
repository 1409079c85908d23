"""Traces: figures from the rows of a measurement, where a row says that it is a curve.

Such a row is {figure, panel, line, x: [...], y: [...]} and, if it likes, x_label, y_label, scale
(linear, log or symlog, of y), mark: [x, y], a point to be seen. Rows of one figure and panel are
drawn together. Where several cells trace the same line, seeds for example, the first is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.figures import MARKERS, OKABE_ITO, STYLE, _figure, _frame

Row = Mapping[str, Any]
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)))
WIDTH, HEIGHT = 2.9, 2.1  # inches of a panel


def is_trace(row: Row) -> bool:
    """Whether a row is a curve and no line of a table."""
    return "figure" in row


def traces(rows: Sequence[Row]) -> dict[str, Any]:
    """name -> matplotlib Figure, in order of first appearance."""
    names = dict.fromkeys(row["figure"] for row in rows if is_trace(row))
    return {name: _drawn([r for r in rows if r.get("figure") == name]) for name in names}


def _drawn(rows: Sequence[Row]) -> Any:
    from matplotlib import rc_context

    panels: dict[str, dict[str, Row]] = {}
    for row in rows:
        panels.setdefault(row["panel"], {}).setdefault(row["line"], row)
    lines = list(dict.fromkeys(line for panel in panels.values() for line in panel))
    wide = min(3, math.ceil(math.sqrt(len(panels))))
    high = math.ceil(len(panels) / wide)
    width = WIDTH * wide + 0.4
    columns = max(1, int(width / (0.6 + 0.07 * max(map(len, lines)))))  # keys in a row
    with rc_context(STYLE):
        legend = 0.25 + 0.17 * math.ceil(len(lines) / columns)
        figure = _figure(width, HEIGHT * high + legend)
        grid = figure.subplots(high, wide, squeeze=False)
        for axes, (title, panel) in zip(grid.flat, panels.items(), strict=False):
            _panel(axes, title, panel, lines)
        for spare in grid.flat[len(panels) :]:
            spare.set_visible(False)
        _legend(figure, lines, columns)
    return figure


def _panel(axes: Any, title: str, panel: Mapping[str, Row], lines: Sequence[str]) -> None:
    for line, row in panel.items():
        place = lines.index(line)
        style = _style(place)
        axes.plot(row["x"], row["y"], **style)
        if row.get("mark"):
            x, y = row["mark"]
            axes.plot([x], [y], marker=MARKERS[place % len(MARKERS)], markersize=5,
                      color=style["color"], linestyle="none")  # fmt: skip
    first = next(iter(panel.values()))
    if first.get("scale", "linear") != "linear":
        axes.set_yscale(first["scale"])
    axes.set_title(title)
    axes.set_xlabel(first.get("x_label", ""))
    axes.set_ylabel(first.get("y_label", ""))
    axes.grid(color="0.9", linewidth=0.5)
    _frame(axes)


def _legend(figure: Any, lines: Sequence[str], columns: int) -> None:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], **_style(i)) for i in range(len(lines))]
    figure.legend(keys, lines, loc="outside lower center", ncols=min(columns, len(lines)),
                  frameon=False, handlelength=3.2)  # fmt: skip


def _style(place: int) -> dict[str, Any]:
    return {
        "color": OKABE_ITO[place % len(OKABE_ITO)],
        "linestyle": DASHES[place % len(DASHES)],
        "linewidth": 1.2,
    }
