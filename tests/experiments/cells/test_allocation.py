"""The cell of `scenario=edge_allocation`: its rows, its curves, and what it refuses."""

import json

import numpy as np
import pytest

from experiments import compose
from experiments.cells.allocation import edge_allocation
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.allocation.edge_servers import EdgeServers
from incentives.allocation.problem import AllocationProblem

R1 = [
    {"training": 4, "consensus": 1, "communication_s": 0.2, "capacity": 8, "mec": [1, 2, 0.5], "deadlines_s": [1, 2, 1]},
    {"training": 6, "consensus": 1, "communication_s": 0.3, "capacity": 10, "mec": [1.5, 1, 1], "deadlines_s": [1, 1, 2]},
    {"training": 5, "consensus": 2, "communication_s": 0.25, "capacity": 9, "mec": [0.8, 1.2, 2], "deadlines_s": [1, 1.5, 2]},
]  # fmt: skip


def _rows(folder, **changes):
    config = {**compose.study(["scenario=edge_allocation"]).cells[0].config, **changes}
    edge_allocation(config, folder, {})
    return json.loads((folder / "rows.json").read_text())


def test_servers_given_in_the_config_reach_oracle_r1(tmp_path):
    rows = _rows(tmp_path, given=R1, deadline_s=6.0, omega=20.0, strategy="on_demand")
    main = rows[0]
    assert main["objective in J"] == pytest.approx(66.9134173, abs=6e-8)
    assert main["T in s"] == pytest.approx(2.390147156, abs=3e-9)
    assert main["iterations"] == 45 and not main["cap met"] and main["tau in s"] == 6.0
    assert max(main["ADMM - cvxpy"], main["bisection - cvxpy"]) < 1e-7
    assert (tmp_path / "digest.txt").exists()


def test_rules_cost_at_least_the_optimum(tmp_path):
    rules = next(row for row in _rows(tmp_path) if row.get("table") == "rules")
    names = ("all to the round", "half and half", "random", "MEC first")
    assert all(rules[name] >= 1.0 for name in names)


def test_residual_curves_fall_to_the_tolerance(tmp_path):
    curves = [row for row in _rows(tmp_path, tau_slack=3.0) if "figure" in row]
    assert [row["line"].split(",")[0] for row in curves] == ["primal", "dual"]
    for row in curves:
        assert row["scale"] == "log" and len(row["x"]) == len(row["y"]) > 5
        assert row["y"][-1] <= 1e-9 < max(row["y"]) and np.min(row["y"]) > 0


def test_where_the_deadline_binds_the_dual_residual_is_zero_and_not_drawn(tmp_path):
    rows = _rows(tmp_path, omega=0.1, tau_slack=1.1)
    assert rows[0]["T in s"] == pytest.approx(1.1 * _shortest(), rel=1e-9)
    curves = [row for row in rows if "figure" in row]
    assert [row["line"].split(",")[0] for row in curves] == ["primal"]


def _shortest():
    """The fastest round that servers of seed 0 can keep with equal frequencies."""
    servers = EdgeServers(5, 3)(Seeds(0).at("edge_servers"))
    return AllocationProblem(servers, 1.0, strategy="equal").shortest


def test_an_infeasible_deadline_fails_with_the_servers_name(tmp_path):
    with pytest.raises(ConfigError, match=r"Server 2 cannot finish .* after the deadline of 2 s"):
        _rows(tmp_path, given=R1, deadline_s=2.0, strategy="equal")
    assert not (tmp_path / "digest.txt").exists()
