"""Closed forms cost less than the searches they replace, measured in one interleaved run."""

from attacks.min_max import MinMax
from attacks.negated import Negated
from experiments.benchmarks.crafting import GOALS, REFERENCE, contestants, measure


def test_rows_say_everything_and_ratios_are_of_this_run():
    table = measure(d=500, n=8, m=2, repetitions=1)
    assert [row["attack"] for row in table] == list(contestants(500))
    by_name = {row["attack"]: row for row in table}
    assert by_name["faker_norm"]["against_faker"] == 1 and by_name[REFERENCE]["speedup"] == 1
    assert set(GOALS) <= set(by_name) and all(row["goal"] is None for row in table)


def test_without_a_base_there_is_no_ratio():
    (row,) = measure(d=10, n=4, m=1, repetitions=1, attacks={"neg": Negated()})
    assert row["against_faker"] is None and row["speedup"] is None and row["met"] is None


def test_at_least_half_of_every_goal():
    """The published search makes about 20 passes over n rows, Faker one over m; goals at 1e6."""
    attacks = {name: each for name, each in contestants(10**6).items() if name in GOALS}
    attacks[REFERENCE] = MinMax(search="published")
    for row in measure(10**6, 20, 4, 2, attacks):
        assert row["goal"] is None or row["speedup"] > row["goal"] / 2, row
