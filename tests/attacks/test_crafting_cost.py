"""The table of what crafting costs: ratios are of one interleaved run, goals those of its size."""

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


def test_goals_are_asked_from_a_million_parameters_on():
    attacks = {name: each for name, each in contestants(10**6).items() if name in GOALS}
    attacks[REFERENCE] = MinMax(search="published")
    rows = {row["attack"]: row for row in measure(10**6, 4, 1, 1, attacks)}
    assert rows[REFERENCE]["goal"] is None
    for name, goal in GOALS.items():
        assert rows[name]["goal"] == goal and rows[name]["met"] == (rows[name]["speedup"] >= goal)
