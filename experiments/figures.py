"""Figures: a study drawn for print, as vector PDF and as PNG.

Colours are Okabe and Ito's and cividis, lines differ in style and marker too, so that a figure
survives a grey printer and colour-blind eyes. Each function returns a matplotlib `Figure`;
`save` writes it without a clock in it. Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.captions import capital, label
from experiments.metrics import metric
from experiments.overoptimisation import curve
from experiments.results import CellResult, StudyResults, grouped
from experiments.scores import attack_start
from experiments.statistics import CONTROLS, NO_ATTACK, is_faker, summarise
from fedalign.core.errors import ConfigError

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # TrueType, so that text stays text
    "svg.hashsalt": "fedalign",
}


def curves(
    study: StudyResults, cells: Sequence[CellResult], rows: str = "defense", columns: str = "attack"
) -> Any:
    """Accuracy per round: a panel per `rows` value, a line per `columns` value, mean ± std band."""
    from matplotlib.ticker import MaxNLocator

    groups, lines = grouped(cells, (rows, columns)), study.axes.get(columns, ("",))

    def draw(axes: Any, panel: str) -> None:
        for line in lines:
            done = [c for c in groups.get((panel, line), ()) if c.status == "done"]
            if done:
                x, mean, std = _accuracy_over_rounds(done)
                step = max(1, len(x) // 5)
                apart = {"markevery": (list(lines).index(line) % step, step)}
                _band(axes, x, mean, std, _style(line, lines) | apart)
        starts = {attack_start(c) for c in cells} - {1}
        for start in starts if len(starts) == 1 else ():
            axes.axvline(start - 0.5, color="0.4", linewidth=0.8, linestyle=(0, (1, 1)))
            axes.text(start - 0.3, 2, "attack", fontsize=6.5, color="0.35")
        axes.set_ylim(0, 101)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))

    return _panels(study, rows, columns, lines, draw, "round", "accuracy in %")


def overoptimisation(
    study: StudyResults, cells: Sequence[CellResult], rows: str = "", columns: str = "objective"
) -> Any:
    """Gold reward after every round against the root of the KL to the base model, where every line
    begins: a panel per `rows` value, a line per `columns` value, means over seeds; dotted and grey,
    what biased annotators think, or the reward model that is climbed."""
    groups, lines = grouped(cells, (rows, columns)), study.axes.get(columns, ("",))

    def draw(axes: Any, panel: str) -> None:
        for line in lines:
            done = [c for c in groups.get((panel, line), ()) if c.status == "done"]
            if not done or "gold_reward" not in done[0].rounds:
                continue
            ways = [curve(cell) for cell in done]
            length = min(len(away) for away, _ in ways)
            away, gold = np.mean([[a[:length], g[:length]] for a, g in ways], axis=0)
            axes.plot(away, gold, **_style(line, lines))
            if (
                "proxy_reward" in done[0].rounds
                and not np.isnan(done[0].rounds["proxy_reward"]).all()
            ):
                proxy = np.mean([c.rounds["proxy_reward"][: length - 1] for c in done], axis=0)
                axes.plot(away[1:], proxy, color="0.55", linewidth=0.8, linestyle=(0, (1, 1.4)))

    return _panels(
        study, rows, columns, lines, draw, "root of the KL to the base model", "gold reward"
    )


def tradeoff(
    study: StudyResults, cells: Sequence[CellResult], rows: str = "", columns: str = "peft"
) -> Any:
    """Gold reward after the last round against what a client sends in one: a panel per `rows`
    value, a point per `columns` value, mean ± std over seeds; the step is what the best of that
    many bytes or fewer reach."""
    groups, points = grouped(cells, (rows, columns)), study.axes.get(columns, ("",))

    def draw(axes: Any, panel: str) -> None:
        found = []
        for point in points:
            cells_of = groups.get((panel, point), ())
            sent, gold = (summarise(cells_of, metric(n)) for n in ("payload_bytes", "gold_reward"))
            if sent.count and gold.count:
                found.append((sent.mean, gold.mean))
                style = _style(point, points)
                axes.plot([sent.mean], [gold.mean], **style | {"linestyle": "none"})
                axes.errorbar(
                    [sent.mean], [gold.mean], yerr=[gold.std], color=style["color"], linewidth=0.8
                )
        if found:
            bytes_sent, reached = np.array(sorted(found)).T
            best = np.maximum.accumulate(reached)
            axes.step(bytes_sent, best, where="post", color="0.75", linewidth=0.8, zorder=0)
            axes.set_xscale("log")

    return _panels(study, rows, columns, points, draw, "bytes per client and round", "gold reward")


def sweep(
    study: StudyResults,
    cells: Sequence[CellResult],
    axis: str,
    rows: str | None,
    columns: str | None,
    measure: str = "accuracy",
) -> Any:
    """A metric against a numeric axis: a panel per `rows` value, a line per `columns` value."""
    shown = metric(measure)
    groups = grouped(cells, (axis, rows or "", columns or ""))
    lines = study.axes.get(columns or "", ("",))
    points = sorted(study.axes[axis], key=float)

    def draw(axes: Any, panel: str) -> None:
        for line in lines:
            over = [summarise(groups.get((x, panel, line), ()), shown) for x in points]
            have = [i for i, o in enumerate(over) if o.count]
            if have:
                x = np.array([float(points[i]) for i in have])
                mean, std = (np.array([getattr(over[i], k) for i in have]) for k in ("mean", "std"))
                _band(axes, x, mean, std, _style(line, lines))
        if re.match(r"(accuracy|error|detection|malicious)\b.* in %", shown.label):
            axes.set_ylim(-2, 102)
        if len(points) < 8:
            axes.set_xticks([float(x) for x in points], points)

    return _panels(
        study, rows or "", columns or "", lines, draw, axis, re.split(r",| \(", shown.label)[0]
    )


def heatmap(
    study: StudyResults,
    cells: Sequence[CellResult],
    rows: str = "defense",
    columns: str = "attack",
    measures: Sequence[str] = ("accuracy",),
) -> Any:
    """One annotated map per metric, `rows` down and `columns` across, one above the other."""
    from matplotlib import rc_context

    down, across = study.axes[rows], study.axes[columns]
    groups = grouped(cells, (rows, columns))
    names = [label(study, rows, value) for value in down]
    heads = [label(study, columns, value) for value in across]
    side = 0.058 * max(map(len, names)) + 0.3  # inches the row names take
    below = 0.065 * max(map(len, heads)) + 0.35  # and the slanted column names
    width, height = max(4.0, side + 0.38 * len(across) + 0.8), 0.27 * len(down) + 0.45
    with rc_context(STYLE):
        figure = _figure(width, len(measures) * height + below)
        parts = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(parts, measures, strict=True):
            shown = metric(name)
            values = np.array(
                [[summarise(groups.get((r, c), ()), shown).mean for c in across] for r in down]
            )
            image = _map(axes, values, _percent(shown.label))
            axes.set_yticks(range(len(down)), names)
            axes.set_title(capital(shown.label), loc="left")
            figure.colorbar(image, ax=axes, fraction=0.03, pad=0.015)
        parts[-1].set_xticks(range(len(across)), heads, rotation=40, ha="right")
    return figure


def detection(
    study: StudyResults, cells: Sequence[CellResult], rows: str = "defense", columns: str = "attack"
) -> Any:
    """What the rules let through and what they refuse unjustly, as two maps."""
    return heatmap(study, cells, rows, columns, ("accepted", "fpr"))


def partition(counts: Sequence[Sequence[int]]) -> Any:
    """Who holds what: the area of a disc is how many samples of a class a client holds.

    counts: (clients, classes), all rows of the same length.
    """
    from matplotlib import rc_context
    from matplotlib.ticker import MaxNLocator

    held = _counts(counts)  # (clients, classes)
    clients, classes = held.shape
    step = min(0.27, 9.0 / max(clients, 1))  # inches per client
    with rc_context(STYLE):
        figure = _figure(max(4.0, step * clients + 1.0), 0.24 * classes + 1.75)
        axes, totals = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [max(classes, 4), 3.5]}
        )
        who, what = np.nonzero(held)
        share = held[who, what] / held.max(initial=1)
        biggest = (60 * min(step, 0.24)) ** 2
        axes.scatter(who, what, s=biggest * share, color=OKABE_ITO[0], linewidths=0)
        axes.set_yticks(range(classes))
        axes.set_ylim(-0.7, classes - 0.3)
        axes.set_ylabel("class")
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_title(
            f"samples per client and class (largest disc: {held.max(initial=0)})", loc="left"
        )
        totals.bar(range(clients), held.sum(axis=1), color="0.55", width=0.7)
        totals.set_xlim(-0.7, clients - 0.3)
        totals.set_ylabel("samples")
        totals.set_xlabel("client")
        totals.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
        _frame(totals)
    return figure


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """name.pdf and name.png (150 dpi) in `folder`, each written aside and renamed."""
    import os

    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, clockless in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        aside, path = folder / f".{name}.{os.getpid()}.{ending}", folder / f"{name}.{ending}"
        try:
            with rc_context(STYLE):
                figure.savefig(aside, dpi=150, metadata=clockless)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        written.append(path)
    return written


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(
    study: StudyResults, rows: str, columns: str, lines: Sequence[str], draw: Any, across: str,
    up: str,
) -> Any:  # fmt: skip
    """Small multiples with one legend below; numbers are told whose they are."""
    from matplotlib import rc_context

    names = study.axes.get(rows, ("",))
    wide = min(4, max(1, math.ceil(math.sqrt(len(names)))))
    high = math.ceil(len(names) / wide)
    legend = math.ceil(len(lines) / max(2, 2 * wide - 2)) if any(lines) else 0
    with rc_context(STYLE):
        figure = _figure(max(3.8, 2.35 * wide), max(2.4, 1.75 * high) + 0.17 * legend + 0.35)
        grid = figure.subplots(high, wide, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            draw(axes, name)
            axes.set_title(f"{_of(rows)} = {name}" if _number(name) else label(study, rows, name))
            axes.grid(color="0.9", linewidth=0.5)
            _frame(axes)
        for spare in grid.flat[len(names) :]:
            spare.set_visible(False)
        for column in range(wide):  # the lowest panel of each column carries the numbers
            lowest = grid[high - 1 if (high - 1) * wide + column < len(names) else high - 2, column]
            lowest.tick_params(labelbottom=True)
            lowest.set_xlabel(across)
        for axes in grid[:, 0]:
            axes.set_ylabel(textwrap.fill(up, 36 * high))
        if any(lines):
            numbers = all(_number(line) for line in lines)
            _legend(figure, lines, max(2, 2 * wide - 2), _of(columns) if numbers else None)
    return figure


def _number(text: str) -> bool:
    return re.fullmatch(r"-?[\d.]+(e-?\d+)?", text) is not None


def _of(axis: str) -> str:
    """An axis of the grid, without where it stands in the config."""
    return axis.rpartition(".")[2]


def _legend(figure: Any, lines: Sequence[str], columns: int, title: str | None = None) -> None:
    drawn = {curve.get_label(): curve for axes in figure.axes for curve in axes.lines}
    shown = [line for line in lines if line in drawn]
    figure.legend(
        [drawn[line] for line in shown], shown, loc="outside lower center", ncols=min(columns, max(1, len(shown))), frameon=False,
        handlelength=3.2, columnspacing=1.2, title=title, title_fontsize="small",
    )  # fmt: skip


def _style(line: str, lines: Sequence[str]) -> dict[str, Any]:
    """No attack: thick black. Faker: solid. Other attacks: dashed. Controls: dotted."""
    if line == NO_ATTACK:
        return {"label": line, "color": "black", "linewidth": 1.8, "linestyle": "-"}
    kind, rest = _kind(line), [x for x in lines if x != NO_ATTACK]
    kin = [x for x in rest if _kind(x) == kind]
    turn, place = divmod(kin.index(line) if line in kin else 0, len(MARKERS))
    return {
        "label": line,
        "color": OKABE_ITO[(rest.index(line) if line in rest else 0) % len(OKABE_ITO)],
        "linestyle": {"faker": "-", "control": (0, (1, 1.4)), "other": (0, (4, 1.5))}[kind],
        "linewidth": 1.1,
        "marker": MARKERS[(place + 3 * turn) % len(MARKERS)],
        "markersize": 3.2,
        "fillstyle": "none" if kind == "other" else "full",
        "markeredgewidth": 0.7,
    }


def _kind(line: str) -> str:
    if line == NO_ATTACK:
        return NO_ATTACK
    return "faker" if is_faker(line) else "control" if line in CONTROLS else "other"


def _band(axes: Any, x: np.ndarray, mean: np.ndarray, std: np.ndarray, style: Mapping) -> None:
    axes.plot(x, mean, **style)
    if std.any():
        axes.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.13, linewidth=0)


def _accuracy_over_rounds(cells: Sequence[CellResult]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    length = min(len(c.rounds["round"]) for c in cells)
    accuracy = 100.0 * np.array([c.rounds["accuracy"][:length] for c in cells])
    known = ~np.isnan(accuracy).any(axis=0)  # rounds that every seed evaluated
    rounds = cells[0].rounds["round"][:length][known]
    return rounds, accuracy[:, known].mean(axis=0), accuracy[:, known].std(axis=0)


def _map(axes: Any, values: np.ndarray, percent: bool) -> Any:
    import matplotlib

    known = values[~np.isnan(values)]
    low, high = (0.0, 100.0) if percent else (known.min(initial=0.0), known.max(initial=1.0))
    colours = matplotlib.colormaps["cividis"].with_extremes(bad="0.92")
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        text = "—" if np.isnan(value) else f"{value:.0f}"
        colour = _letter(colours(image.norm(value))) if not np.isnan(value) else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)
    axes.tick_params(length=0)
    return image


def _letter(background: Sequence[float]) -> str:
    """Black or white, whichever has the larger contrast by relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    return "black" if np.dot(linear, [0.2126, 0.7152, 0.0722]) > 0.179 else "white"


def _percent(text: str) -> bool:
    return " in %" in text


def _frame(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _counts(counts: Sequence[Sequence[int]]) -> np.ndarray:
    lengths = {len(row) for row in counts}
    if not counts or len(lengths) != 1 or lengths == {0}:
        raise ConfigError(
            "A partition plot needs one row of class counts per client, all of one length; got "
            f"{len(counts)} rows of lengths {sorted(lengths)}."
        )
    return np.array(counts, dtype=np.int64)
