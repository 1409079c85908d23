"""Best of n: exact means over subsets, and a proxy whose error is what more answers buy."""

import json
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")

from experiments import compose
from experiments.cells.best_of_n import best, best_of_n
from experiments.traces import is_trace
from fedalign.core.errors import ConfigError
from fedalign.objectives.rejection_sampling import best_of_kl
from tests import tiny_alignment
from tests.experiments.test_alignment_cell import SMALL

SHAPE = [word for word in SMALL if word.startswith(("data.", "model."))]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch):
    monkeypatch.setenv("FEDALIGN_CACHE", str(tiny_alignment.folder()))


def played(folder, *words):
    (cell,) = compose.study(["scenario=best_of_n", *SHAPE, "seed=0", "most=8", *words]).cells
    best_of_n(cell.config, folder, {})
    rows = json.loads((folder / "rows.json").read_text())
    return [r for r in rows if "n" in r], [r for r in rows if is_trace(r)], rows


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_mean_is_that_over_all_subsets(n):
    rng = np.random.default_rng(0)
    proxy, gold = rng.standard_normal((2, 3, 5))
    expected = [
        np.mean([
            values[row, max(subset, key=lambda i: proxy[row, i])]
            for row in range(3) for subset in combinations(range(5), n)
        ])
        for values in (proxy, gold)
    ]  # fmt: skip
    assert best(proxy, gold, n) == pytest.approx(expected)


def test_without_a_bias_the_proxy_is_the_truth_and_more_answers_only_help(tmp_path):
    rows, curves, every = played(tmp_path, "data.annotator.filler_bias=0.0")
    assert [row["n"] for row in rows] == [1, 2, 4, 8]
    assert rows[0]["root of the KL"] == 0
    assert rows[-1]["root of the KL"] == pytest.approx(best_of_kl(8) ** 0.5)
    gold = [row["gold reward"] for row in rows]
    assert gold == pytest.approx([row["proxy reward"] for row in rows])
    assert gold == sorted(gold) and gold[-1] > gold[0] + 0.5
    assert [c["line"] for c in curves] == ["proxy", "gold"] and curves[1]["y"] == gold
    (fit,) = (row for row in every if row.get("table") == "fit")
    assert fit["highest gold"] == gold[-1] and fit["lost from there on"] == 0 and fit["alpha"] > 0


def test_a_bias_lifts_the_proxy_above_the_truth(tmp_path):
    rows, _, _ = played(tmp_path / "biased", "data.annotator.filler_bias=2.0")
    fair, _, _ = played(tmp_path / "fair", "data.annotator.filler_bias=0.0")
    assert all(row["proxy reward"] > row["gold reward"] for row in rows)
    assert rows[0]["gold reward"] == pytest.approx(fair[0]["gold reward"])  # the same answers
    assert rows[-1]["gold reward"] < fair[-1]["gold reward"]


@pytest.mark.parametrize("words", [["objective=dpo"], ["objective.groups=min"]])
def test_what_chooses_nothing_is_refused(tmp_path, words):
    with pytest.raises(ConfigError, match="take objective=rejection_sampling with groups=own"):
        played(tmp_path, "data.annotator.filler_bias=0.0", *words)


def test_too_few_answers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="most must be 4 or more answers per prompt, got 2"):
        played(tmp_path, "data.annotator.filler_bias=0.0", "most=2")
