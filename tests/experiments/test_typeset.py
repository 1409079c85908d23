"""One table, five forms."""

import csv
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiments.typeset import Entry, Table, number


def small():
    return Table(
        name="main",
        caption="Accuracy in %, a_b & c",
        header=["defense", "none", "sign_flip5"],
        rows=[
            [
                Entry.of("krum (U)"),
                Entry("91.0±0.5", {"mean": 91.0, "std": 0.5}, best=True),
                Entry("failed", notes=(1,)),
            ],
            [Entry.of("a|b"), Entry("—"), Entry("12.0", {"mean": 12.0, "std": 0.0}, notes=(2,))],
        ],
        notes=["Seed 1 failed: 50% of disk\nis full", "only seed 0"],
        command="python run_experiment.py scenario=faker",
    )


def printed(table, width):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(table.terminal(width))
    return console.file.getvalue()


def test_markdown_letter_by_letter():
    assert small().markdown() == (
        "**Accuracy in %, a_b & c**\n\n"
        "| defense | none | sign_flip5 |\n"
        "| --- | --: | --: |\n"
        "| krum (U) | **91.0±0.5** | failed [1] |\n"
        "| a\\|b | — | 12.0 [2] |\n\n"
        "[1] Seed 1 failed: 50% of disk is full\n\n"
        "[2] only seed 0\n\n"
        "Reproduce: `python run_experiment.py scenario=faker`\n"
    )


def test_latex_is_booktabs_with_bold_caption_and_escapes():
    text = small().latex()
    for piece in (
        "\\toprule", "\\midrule", "\\bottomrule", "\\label{tab:main}",
        "\\caption{Accuracy in \\%, a\\_b \\& c Reproduce: "
        "\\texttt{python run\\_experiment.py scenario=faker}.}",
        "defense & none & sign\\_flip5 \\\\",
        "krum (U) & $\\mathbf{91.0 \\pm 0.5}$ & failed\\textsuperscript{1} \\\\",
        "a$|$b & --- & $12.0$\\textsuperscript{2} \\\\",
        "Seed 1 failed: 50\\% of disk is full",
    ):  # fmt: skip
        assert piece in text
    body = re.sub(r"\\[{}]", "", text)
    assert body.count("{") == body.count("}")
    assert text.count("\\begin{") == text.count("\\end{")
    assert "±" not in text and "—" not in text


@given(st.text(max_size=30))
def test_no_text_breaks_the_latex_or_the_markdown_row(text):
    table = Table("t", "c", ["a", "b"], [[Entry.of(text), Entry("x", notes=(1,))]], notes=[text])
    row = next(line for line in table.latex().splitlines() if "\\textsuperscript{1} \\\\" in line)
    bare = row.replace("\\textbackslash{}", "").replace("\\&", "").removesuffix(" \\\\")
    assert bare.count("&") == 1
    assert not re.search(r"(?<!\\)[%#_]", bare)
    lines = table.markdown().split("\n")
    assert len(re.findall(r"(?<!\\)\|", lines[4])) == 3


def test_a_command_in_a_note_is_typewriter_text_with_quotes_that_can_be_copied():
    table = Table("t", "c", ["a"], [[Entry("1", notes=(1,))]], notes=["Run `x_y 'z=[1]'` now."])
    assert r"Run \texttt{x\_y \textquotesingle{}z=[1]\textquotesingle{}} now." in table.latex()
    assert "[1] Run `x_y 'z=[1]'` now." in table.markdown()


def test_csv_holds_the_numbers_at_full_precision():
    table = Table(
        "t", "c", ["defense", "none", "ms"],
        [[Entry.of("krum"), Entry("0.3±0.1", {"mean": 1 / 3, "std": 0.1}), Entry.of(1 / 7, 2)],
         [Entry.of("median"), Entry("failed", notes=(1,)), Entry.of(float("nan"), 2)],
         [Entry.of("mean"), Entry("—"), Entry("—")]],
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(table.csv())))
    assert rows[0] == ["defense", "none mean", "none std", "ms"]
    assert rows[1] == ["krum", repr(1 / 3), "0.1", repr(1 / 7)]
    assert rows[2] == ["median", "failed", "", ""]
    assert rows[3] == ["mean", "", "", ""]


def test_json_says_everything_and_knows_no_nan():
    table = Table("t", "c", ["a"], [[Entry.of(np.nan)], [Entry.of(np.inf)], [Entry.of(2.0, 1)]])
    assert [row[0]["value"] for row in json.loads(table.json())["rows"]] == [None, "inf", 2.0]
    whole = json.loads(small().json())
    assert whole["rows"][0][1] == {"text": "91.0±0.5", "mean": 91.0, "std": 0.5, "best": True}
    assert whole["rows"][0][2] == {"text": "failed", "notes": [1]}
    assert whole["command"].startswith("python") and len(whole["notes"]) == 2


def test_the_same_table_gives_the_same_bytes():
    for form in ("markdown", "latex", "csv", "json"):
        assert getattr(small(), form)() == getattr(small(), form)()


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_wide_table_is_cut_into_bands_that_fit_the_terminal(width):
    names = [f"faker_variant_{i}" for i in range(15)]
    row = [Entry.of("spp_layerwise+norm_filter (M)"), *(Entry("95.0±10.5") for _ in names)]
    text = printed(Table("t", "c", ["defense", *names], [row]), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("95.0±10.5") == 15  # nothing lost, nothing twice
    assert text.count("spp_layerwise+norm_filter (M)") >= 2  # each band repeats the name


def test_bands_are_equally_full():
    names = [f"c{i:07}" for i in range(9)]
    row = [Entry.of("d"), *(Entry("1") for _ in names)]
    text = printed(Table("t", "c", ["defense", *names], [row]), 90)
    counts = [len(re.findall(r"c0\d+", line)) for line in text.splitlines() if "c0" in line]
    assert counts == [5, 4]


def test_a_table_without_columns_or_rows_still_prints():
    for table in (Table("t", "nothing", ["defense"], []), Table("t", "c", ["a", "b"], [])):
        assert table.caption in printed(table, 80)
        assert table.markdown() and table.latex() and table.csv() and json.loads(table.json())


def test_numbers():
    assert number(-0.04, 1) == "0.0" and number(2.05, 0) == "2" and number(-1.25, 1) == "-1.2"
    texts = [Entry.of(v).text for v in (None, "x", True, 3, 12345678, 0.000123456, 12.34567)]
    assert texts == ["—", "x", "True", "3", "12345678", "0.0001235", "12.35"]
    assert Entry.of(np.nan, 2).text == "n/a"
