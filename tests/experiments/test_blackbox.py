"""The black-box table: the measured game, its value, and the command that plays it."""

import shlex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import compose
from experiments.blackbox import BlackBox, Game
from experiments.build import build
from fedalign.core.errors import UnknownNameError
from tests.experiments.synthetic_study import cell, grid, study

MEDIAN = {"_target_": "defenses.median.Median"}
TRIMMED = {"_target_": "defenses.trimmed_mean.TrimmedMean", "fraction": 0.1}
SERVER = {"_target_": "defenses.dynamic_server.DynamicServer", "pool": [MEDIAN, TRIMMED]}


def row(node, none, a, b):
    return {
        attack: (percent, {"config": {"defense": node}})
        for attack, percent in (("none", none), ("a", a), ("b", b))
    }


def played(trimmed=TRIMMED, server=SERVER, **more):
    """Impact (4, 1; 0, 2): the median loses 4 and 0 points, the trimmed mean 1 and 2."""
    rows = {"median": row(MEDIAN, 90, 86, 90), "trimmed": row(trimmed, 90, 89, 88)}
    return grid(rows | ({"server": row(server, 88, 85, 87)} if server else {}), **more)


def texts(table):
    return [[entry.text for entry in line] for line in table.rows]


def test_a_game_worked_by_hand():
    """Uniform: (4 + 1) / 2 = 2.5 and (0 + 2) / 2 = 1. Minimax: 4p + (1 - p) = 2 (1 - p) gives
    p = 1/5 and 8/5 points under either attack. The server was measured at 3 and 1."""
    (table,) = BlackBox()(played())
    assert list(table.header) == [
        "attack", "median", "trimmed", "server", "expected uniform", "expected minimax",
    ]  # fmt: skip
    assert texts(table) == [
        ["a", "4.0", "1.0", "3.0", "2.5", "1.6"],
        ["b", "0.0", "2.0", "1.0", "1.0", "1.6"],
        ["maximum", "4.0", "2.0", "3.0", "2.5", "1.6"],
    ]
    assert [e.best for e in table.rows[-1]] == [False] * 5 + [True]
    assert "the same rule and seed unattacked minus attacked" in table.caption


def test_the_chain_is_printed():
    """Uniform: 2.5, (4 + 2) / 2 = 3, 4. Minimax: 1.6, 4/5 + 8/5 = 2.4, 4."""
    (table,) = BlackBox()(played())
    uniform, minimax = table.notes[:2]
    assert uniform == (
        "Uniform p: max_a sum_r p_r I = 2.50 ≤ sum_r p_r max_a I = 3.00 ≤ max_a,r I = 4.00 holds."
    )
    assert minimax.startswith("Minimax p: median 0.200, trimmed 0.800 (linear program); ")
    assert "I = 1.60 ≤ sum_r p_r max_a I = 2.40 ≤ max_a,r I = 4.00 holds." in minimax
    assert minimax.endswith("The value of the game is the first number, 1.60 points.")
    assert table.rows[-1][4].notes == (1,) and table.rows[-1][5].notes == (2, 3)


games = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).uniform(
        -20, 90, size=np.random.default_rng(seed).integers(1, 6, size=2)
    )
)


@given(games, st.integers(0, 1000))
def test_the_chain_of_inequalities_on_any_matrix(matrix, seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(matrix.shape[1]))
    game = Game([str(i) for i in range(len(matrix))], [], matrix, p, p)
    drawn, told, worst = game.chain(p)
    assert drawn <= told + 1e-9 and told <= worst + 1e-9
    assert worst == matrix.max() and drawn == pytest.approx(max(matrix @ p))
    assert float(game.column(p, ["0"])[-1].data["mean"]) == pytest.approx(drawn)


def test_impact_is_paired_by_seed():
    """Seeds add 0 and 2 points to attacked and unattacked runs alike: no spread in the impact."""
    (table,) = BlackBox()(played(seeds=(0, 1), spread=2.0))
    assert texts(table)[0][1:] == ["4.0±0.0", "1.0±0.0", "3.0±0.0", "2.5", "1.6"]


def measured(words=("scenario=blackbox_server", "seed=0")):
    """The scenario's own grid and configs with made-up accuracies."""
    asked = compose.study(list(words))
    rng = np.random.default_rng(0)
    cells = [
        cell(
            {k: v for k, v in one.axes.items() if k != "seed"}, 0,
            0.9 if one.axes["attack"] == "none" else 0.9 - 0.5 * rng.random(), config=one.config,
        )
        for one in asked.cells
    ]  # fmt: skip
    return study(cells, {k: tuple(v) for k, v in asked.axes.items() if k != "seed"})


def test_the_printed_command_plays_the_measured_game():
    command = "python run_experiment.py scenario=blackbox_server seed=0"
    replaced = " defense=median,krum defense.fraction=0.1 defense.impact=[[9]] output_root=x"
    (table,) = BlackBox(command + replaced)(measured())
    note = next(n for n in table.notes if "in a folder of its own" in n)
    words = shlex.split(note.split("`")[1])
    assert words[:4] == command.split() and len(words) == 7
    assert words[-1] == "output_root=outputs/minimax"
    found = compose.study(words[2:])
    assert list(found.axes["defense"]) == ["dynamic_server_minimax"]
    server = build(found.cells[0].config["defense"])
    impact = np.array(server.impact)  # (attacks, pool)
    assert impact.shape == (7, 4) and server.mode == "minimax"
    pool = ["multi_krum", "median", "trimmed_mean10", "bulyan"]  # its own order
    for j, rule in enumerate(pool):
        column = list(table.header).index(f"{rule}")
        shown = [line[column].data["mean"] for line in table.rows[:-1]]
        assert impact[:, j] == pytest.approx(shown, abs=0.0051)
    expected = [line[-1].data["value"] for line in table.rows[:-1]]
    assert impact @ np.array(server.minimax) == pytest.approx(expected, abs=0.05)


def test_a_rule_with_other_parameters_than_the_pool_s_stands_for_it_and_says_so():
    own = {"_target_": "defenses.trimmed_mean.TrimmedMean", "trim": 4}
    (table,) = BlackBox()(played(trimmed=own))
    note = (
        "In the game trimmed stands in for the pool's TrimmedMean(trim=None, fraction=0.1), which "
        "may lose more or less."
    )
    place = list(table.notes).index(note) + 1
    assert table.rows[-1][2].notes == (place,)
    assert all(place in entry.notes for entry in table.rows[-1][-2:])  # both expectations use it
    assert not any("stands in" in n for n in BlackBox()(played())[0].notes)


def test_rules_of_the_pool_that_the_grid_lacks_are_named_instead_of_a_wrong_command():
    bulyan = {"_target_": "defenses.bulyan.Bulyan"}
    wide = SERVER | {"pool": [bulyan, MEDIAN, TRIMMED]}
    (table,) = BlackBox()(played(server=wide))
    assert texts(table)[0][-1] == "1.6"
    assert (
        "The game is over median, trimmed: the pool's Bulyan are not in the grid, so the matrix "
        "does not fit the minimax server." in table.notes
    )
    assert not any("defense.impact" in n for n in table.notes)


def test_without_a_server_the_game_is_over_all_rules():
    (table,) = BlackBox()(played(server=None))
    assert list(table.header)[1:3] == ["median", "trimmed"] and texts(table)[0][-1] == "1.6"


def test_without_rules_of_the_pool_nothing_is_expected():
    only = grid({"server": row(SERVER, 88, 85, 87)})
    (table,) = BlackBox()(only)
    assert list(table.header) == ["attack", "server"] and texts(table)[-1] == ["maximum", "3.0"]


def test_attacks_that_one_rule_has_no_run_of_are_left_out_of_the_game():
    made = played()
    cells = [c for c in made.cells if dict(c.axes) != {"attack": "a", "defense": "trimmed"}]
    (table,) = BlackBox()(study(cells, made.axes))
    assert texts(table)[0] == ["a", "4.0", "—", "3.0", "—", "—"]
    assert texts(table)[1][-2:] == ["1.0", "0.0"]  # over b alone: (0, 2), all on the median
    assert "Failed, missing or without attack=none of the same rule and seed." in table.notes


def test_a_study_without_attacks_as_an_axis_is_refused():
    with pytest.raises(UnknownNameError, match="axis of this study 'attack'"):
        BlackBox()(study([cell({"defense": "krum"})]))
