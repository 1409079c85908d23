"""The chain's speed table: both rivals do the work, ratios are against the best one."""

import pytest

from experiments.benchmarks.chain import measure
from fedalign.core.errors import ConfigError

pytest.importorskip("eth_tester", reason="eth-tester is absent: pip install 'eth-tester[py-evm]'")


@pytest.mark.slow
def test_rates_ratios_and_goals():
    rows = measure(blocks=20, commits=64, repetitions=1)
    empty = [r for r in rows if r["table"] == "empty_blocks"]
    commits = [r for r in rows if r["table"] == "commits"]
    assert [r["ratio"] for r in empty if r["method"].startswith("eth-tester")] == [1.0]
    assert max(r["ratio"] for r in commits if r["method"].startswith("eth-tester")) == 1.0
    assert [r["goal"] for r in commits] == [None, None, ">= 5x", ">= 20x"]
    for row, asked in zip(commits[2:], (5, 20), strict=True):
        assert row["ratio"] > 0 and row["met"] == (row["ratio"] >= asked)


def test_bad_sizes_say_what_would_work():
    with pytest.raises(ConfigError, match="steps of 64"):
        measure(blocks=1, commits=65, repetitions=1)
