"""The whole report of small studies."""

import csv
import json

import pytest

from experiments import catalogue, compose
from experiments.gallery import FIGURES
from experiments.metrics import METRICS
from experiments.report import NAMED, main_tables, write
from experiments.results import load
from experiments.tables import Matrix, several
from fedalign.core.errors import UnknownNameError
from tests.experiments.synthetic_study import cell, grid, put_on_disk, study

NODE = {
    "title": "Faker against two rules",
    "main": {"rows": "defense", "columns": "attack", "metric": "accuracy"},
    "figures": ["heatmap"],
    "claims": "faker",
}


def made():
    return grid(
        {
            "norm_filter": {"none": 95, "la": 94, "mb": 94, "faker_norm": 19},
            "krum": {"none": 91, "la": 92, "mb": 92, "faker_norm": 90},
        },
        seeds=(0, 1, 2), spaces={"norm_filter": "model", "krum": "update"},
    )  # fmt: skip


def files(folder):
    inner = [*folder.glob("*.*"), *folder.glob("tables/*"), *folder.glob("figures/*")]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in inner if p.is_file()}


def test_everything_is_written_and_linked(tmp_path):
    put_on_disk(tmp_path, made(), report=NODE)
    (tmp_path / "environment.json").write_text(json.dumps({"versions": {"torch": "2.13.0"}}))
    (tmp_path / "digest.txt").write_text("abc123\n")
    path = write(load(tmp_path))
    text, found = path.read_text(encoding="utf-8"), files(tmp_path)
    assert path == tmp_path / "report.md" and text.startswith("# Faker against two rules\n")
    for piece in (
        "24 runs (4 x attack, 2 x defense, 3 x seed): 24 done.",
        "python run_experiment.py scenario=made_up", "- versions: torch 2.13.0",
        "- result digest: `abc123`", "| norm_filter (M) | **95.0±0.0** |",
        "![Attack x defense](figures/heatmap.png)", "## Claims",
        "| [x] | Faker beats LA and MB (as published) on the norm filter. | **holds** |",
        "not measured here",
    ):  # fmt: skip
        assert piece in text
    for name in ("main", "summary", "ratios", "damage", "tpr", "fpr", "weight", "craft_ms"):
        assert all(f"tables/{name}.{ending}" in found for ending in ("md", "tex", "csv", "json"))
    assert "tables/attack_success.md" not in found  # nothing measured it
    assert {"figures/heatmap.pdf", "figures/heatmap.png", "results.csv"} <= set(found)
    assert "figures/curves.png" not in found  # not asked for
    assert "Reproduce: \\texttt{python run\\_experiment.py" in found["tables/main.tex"].decode()


def test_writing_twice_changes_nothing_and_leaves_nothing_aside(tmp_path):
    put_on_disk(tmp_path, made(), report=NODE)
    write(load(tmp_path))
    first = files(tmp_path)
    write(load(tmp_path))
    assert files(tmp_path) == first
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()]


def test_results_in_long_format(tmp_path):
    put_on_disk(tmp_path, made(), report=NODE)
    write(load(tmp_path))
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert list(rows[0]) == ["attack", "defense", "seed", "metric", "value"]
    accuracy = [r for r in rows if r["metric"] == "accuracy"]
    assert len(accuracy) == 24
    faker = [r for r in accuracy if (r["attack"], r["defense"]) == ("faker_norm", "norm_filter")]
    assert [float(r["value"]) for r in faker] == pytest.approx([19.0] * 3)
    assert [r["seed"] for r in faker] == ["0", "1", "2"]
    assert sum(float(r["value"]) for r in rows if r["metric"] == "done") == 24


def test_failed_and_missing_runs_are_counted_and_shown(tmp_path):
    cells = [
        cell({"attack": "none", "defense": "krum"}, 0, 0.9),
        cell({"attack": "la", "defense": "krum"}, 0, status="failed", reason="disk full"),
        cell({"attack": "mb", "defense": "krum"}, 0, status="missing"),
    ]
    put_on_disk(tmp_path, study(cells), report={"figures": []})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "1 done, 1 failed, 1 missing." in text
    assert "| krum | 90.0 | failed [1] | — |" in text and "[1] Failed: disk full" in text


def test_nothing_finished_still_makes_a_report(tmp_path):
    cells = [cell({"attack": a, "defense": "krum"}, 0, status="missing") for a in ("none", "la")]
    put_on_disk(tmp_path, study(cells), report={"claims": "faker"})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "2 missing." in text and "| krum | — | — |" in text
    assert not (tmp_path / "figures").exists()


def test_a_study_of_one_run_prints_a_small_table_and_its_curve(tmp_path):
    node = {"main": {"rows": "defense", "columns": "attack", "metric": "accuracy"}}
    choices = {"attack": "neg", "defense": "krum"}
    one = study([cell({}, 0, 0.9, choices=choices)], {}, name="single")
    put_on_disk(tmp_path, one, report=node | {"figures": ["curves", "heatmap", "partition"]})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "| single | 90.0 |" in text and "attack neg, defense krum" in text
    assert [p.name for p in sorted((tmp_path / "figures").iterdir())] == [
        "curves.pdf", "curves.png",
    ]  # fmt: skip


def test_a_numeric_axis_gets_a_line_figure_and_tables_per_value(tmp_path):
    cells = [
        cell({"attack": a, "defense": "krum", "byzantine_fraction": f}, 0, v)
        for f, v in (("0.1", 0.8), ("0.2", 0.6)) for a in ("none", "neg")
    ]  # fmt: skip
    put_on_disk(tmp_path, study(cells), report={"figures": [], "tables": ["error"]})
    write(load(tmp_path))
    found = files(tmp_path)
    assert {"figures/sweep_byzantine_fraction.png", "tables/main__byzantine_fraction-0.1.md",
            "tables/error__byzantine_fraction-0.2.tex"} <= set(found)  # fmt: skip


def test_one_axis_alone_is_a_table_of_its_metrics(tmp_path):
    cells = [cell({"defense": d}, 0, 0.9, space="update") for d in ("krum", "median")]
    put_on_disk(tmp_path, study(cells), report={"figures": ["curves"]})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "| defense | accuracy |" in text and "| krum (U) | 90.0 |" in text


def test_the_partition_is_drawn_when_the_study_has_one(tmp_path):
    put_on_disk(tmp_path, made(), report={"figures": ["partition"]})
    (tmp_path / "partition.json").write_text(json.dumps({"clients": [[5, 0], [1, 9]]}))
    write(load(tmp_path))
    assert (tmp_path / "figures/partition.pdf").exists()
    (tmp_path / "partition.json").write_text(json.dumps({"clients": [[], []]}))
    write(load(tmp_path))  # data without classes: nothing to draw, nothing to fail


def test_rows_of_a_benchmark_are_the_table(tmp_path):
    rows = [{"rule": "krum", "ours_ms": 1.5, "ratio": 3.25}]
    put_on_disk(tmp_path, study([], {}), rows=rows, report={"title": "Speed of rules"})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "# Speed of rules" in text and "| krum | 1.5 | 3.25 |" in text
    assert [t.name for t in main_tables(load(tmp_path))] == ["main"]


def test_detection_laid_out_as_the_main_table(tmp_path):
    node = {"main": {"rows": "attack", "columns": "defense"}, "tables": ["detection"]}
    put_on_disk(tmp_path, made(), report=node | {"figures": []})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "| faker_norm | 75 / 0 / 5.0 | 75 / 0 / 5.0 |" in text
    assert "| none | n/a / 0 / n/a |" in text


def test_a_narrowed_study_falls_back_to_axes_that_it_has(tmp_path):
    """rho is fixed on the command line: no axis is left to make the columns asked for."""
    node = {"main": {"rows": ["defense", "attack"], "columns": "rho", "metric": "error"}}
    put_on_disk(tmp_path, made(), report=node | {"tables": ["tpr"], "figures": []})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "| krum (U) | 9.0±0.0 |" in text and "tables/tpr.csv" in text
    alone = study([cell({"defense": "krum"}, 0, 0.9)])
    put_on_disk(tmp_path, alone, report=node | {"tables": ["detection"], "figures": []})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "| defense | tpr | fpr | weight |" in text


def test_figures_of_a_sweep(tmp_path):
    """rho has three values and is drawn, for each q; q has two and is not. krum has no rho."""
    cells = [
        cell({"attack": "neg", "defense": "spp", "rho": r, "q": q}) for r in "123" for q in "14"
    ] + [cell({"attack": "neg", "defense": "krum", "rho": "—", "q": "—"})]
    axes = {"attack": ("neg",), "defense": ("krum", "spp"), "rho": tuple("123"), "q": tuple("14")}
    node = {"main": {"rows": ["defense", "rho", "q"]}, "tables": [], "sweep": ["accuracy", "tpr"]}
    put_on_disk(tmp_path, study(cells, axes), report=node | {"figures": ["sweep"]})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert sorted(p.stem for p in (tmp_path / "figures").glob("*.png")) == [
        f"sweep_rho__{m}__q-{q}" for m in ("accuracy", "tpr") for q in "14"
    ]
    assert "## Figure: Sweep of rho (tpr, q-4)" in text
    assert "| krum | — | — | 90.0 |" in text and "| spp | 3 | 4 | 90.0 |" in text


@pytest.mark.parametrize("name", catalogue.names("scenario"))
def test_every_scenario_asks_for_what_exists(name):
    node = compose.study([f"scenario={name}"]).report
    assert set(node) <= {"title", "main", "tables", "figures", "sweep", "claims", "pool"}
    assert set(node.get("tables") or ()) <= {*NAMED, *METRICS}
    assert set(node.get("figures") or ()) <= set(FIGURES)
    for measure in several(node.get("sweep") or ()):
        assert measure in METRICS
    Matrix(**(node.get("main") or {}))


def test_only_the_tables_asked_for(tmp_path):
    put_on_disk(tmp_path, made(), report={"tables": ["error"], "figures": []}, command="make run")
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert sorted(p.stem for p in (tmp_path / "tables").glob("*.md")) == ["error", "main"]
    assert "make run" in text and "## Claims" not in text


@pytest.mark.parametrize(
    "node, message",
    [({"tables": ["mian"]}, "table 'mian'"), ({"figures": ["curvs"]}, "Did you mean 'curves'")],
)
def test_names_that_do_not_exist_are_refused(tmp_path, node, message):
    put_on_disk(tmp_path, made(), report=node)
    with pytest.raises(UnknownNameError, match=message):
        write(load(tmp_path))


def test_other_axes_judge_and_print_each_panel(tmp_path):
    cells = [
        cell({"attack": a, "defense": "fedavg", "partition": p}, 0, v)
        for p, low in (("iid", 0.1), ("classes", 0.9))
        for a, v in (("none", 0.95), ("sign_flip5", low))
    ]
    put_on_disk(tmp_path, study(cells), report={"claims": "faker", "figures": ["heatmap"]})
    text = write(load(tmp_path)).read_text(encoding="utf-8")
    assert "## Main table (partition-iid)" in text and "figures/heatmap__partition-iid.png" in text
    assert "(partition = iid) | **holds**" in text
    assert "(partition = classes) | **does not hold**" in text
