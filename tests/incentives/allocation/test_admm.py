"""ADMM reaches the spec's oracles R1 and R2, in as many iterations as the spec counted."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.allocation.admm import ADMM
from incentives.allocation.bisection import Bisection
from incentives.allocation.central import Central
from incentives.allocation.edge_server import EdgeServer
from incentives.allocation.edge_servers import EdgeServers
from incentives.allocation.problem import AllocationProblem

R1 = [
    EdgeServer(4, 1, 0.2, 8, (1, 2, 0.5), (1, 2, 1)),
    EdgeServer(6, 1, 0.3, 10, (1.5, 1, 1), (1, 1, 2)),
    EdgeServer(5, 2, 0.25, 9, (0.8, 1.2, 2), (1, 1.5, 2)),
]
TABLE = [  # omega, tau, strategy, T, objective, iterations, iterations at rho 1 / 5 / 25 / 100
    (20, 6, "on_demand", 2.390147156, 66.9134173, 45, (396, 87, 70, 119)),
    (20, 6, "equal", 2.554997574, 68.5706696, 59, (1122, 234, 69, 122)),
    (200, 6, "on_demand", 2.332234595, 487.4152305, 86, (1133, 231, 84, 97)),
    (200, 6, "equal", 2.471052221, 514.6745827, 238, (None, None, 4019, 1060)),
    (5, 4, "on_demand", 3.453512160, 26.3428024, 33, (42, 75, 344, 1345)),
    (5, 4, "equal", 3.453512160, 26.7773024, 33, (42, 75, 344, 1345)),
    (0.5, 4, "on_demand", 4.0, 8.9132405, 33, ()),
]


def _problem(omega=20.0, tau=6.0, strategy="on_demand", servers=R1):
    return AllocationProblem(servers, omega, tau, strategy)


def _random(k):
    """2 to 7 servers, omega 1 to 316, a deadline 1.01 to 3 times the shortest round."""
    rng = Seeds(k).at("random_problem")
    servers = EdgeServers(int(rng.integers(2, 8)))(rng)
    omega, strategy = float(10 ** rng.uniform(0, 2.5)), ("equal", "on_demand")[k % 2]
    shortest = AllocationProblem(servers, omega, np.inf, strategy).shortest
    return AllocationProblem(servers, omega, shortest * float(rng.uniform(1.01, 3)), strategy)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_oracle_r1(row):
    omega, tau, strategy, round_s, objective, iterations, _ = row
    found = ADMM()(_problem(omega, tau, strategy))
    assert found.allocation.round_s == pytest.approx(round_s, abs=3e-9)
    assert found.allocation.objective == pytest.approx(objective, abs=6e-8)
    assert found.iterations == iterations and not found.exact
    assert found.allocation.violation < 1e-12


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_cvxpy_agrees_with_r1(row):
    """CVXPY knows only the constraints; the spec found 2e-8 in the objective."""
    problem = _problem(*row[:3])
    central = Central()(problem)
    assert central.objective == pytest.approx(row[4], rel=2e-8)
    assert central.round_s == pytest.approx(row[3], rel=1e-5)
    assert central.violation < 1e-7


def test_r1_frequencies_of_the_first_row():
    found = ADMM()(_problem()).allocation
    assert found.training == pytest.approx([2.28295, 3.34905, 3.38642], abs=5e-6)
    assert found.consensus == pytest.approx([2.28295, 3.34905, 3.01358], abs=5e-6)


def test_r1_mobile_edge_part():
    """F' and energy: on demand 8 - (1 + 1 + .5) = 5.5, equal 8 - 3 x 1 = 5; kappa sum C f^2."""
    demand, equal = _problem(), _problem(strategy="equal")
    assert demand.cost.capacity == pytest.approx([5.5, 7, 6.4], abs=1e-12)
    assert equal.cost.capacity == pytest.approx([5, 5.5, 6], abs=1e-12)
    assert demand.mec_energy == pytest.approx(1.103, abs=1e-12)
    assert equal.mec_energy == pytest.approx(1.5375, abs=1e-12)


@pytest.mark.parametrize("row", [TABLE[0], TABLE[4]], ids=["omega 20", "omega 5"])
def test_a_fixed_penalty_needs_as_many_iterations_as_the_spec_counted(row):
    for rho, iterations in zip((1, 5, 25, 100), row[6], strict=True):
        found = ADMM(rho=rho)(_problem(*row[:3]))
        assert found.iterations == iterations
        assert found.allocation.objective == pytest.approx(row[4], abs=6e-8)
        assert found.primal[-1] <= 1e-9  # the primal residual tends to 0 for every rho


@pytest.mark.slow
def test_a_fixed_penalty_may_meet_the_cap_and_then_bisection_answers():
    row = TABLE[3]
    for rho, iterations in zip((1, 5, 25, 100), row[6], strict=True):
        found = ADMM(rho=rho)(_problem(*row[:3]))
        assert found.exact == (iterations is None)
        assert found.iterations == (iterations or 5000)
        assert found.allocation.objective == pytest.approx(row[4], rel=1e-9)


def test_the_cap_falls_back_to_the_exact_answer():
    found = ADMM(most_iterations=3)(_problem())
    assert found.exact and found.iterations == 3
    assert found.allocation.round_s == Bisection()(_problem()).round_s


def test_oracle_r2():
    """Identical, uncapped servers: T* = .25 + (2 x .1 x 4 x 5^3 / 20)^(1/3) = .25 + 5^(1/3)."""
    problem = AllocationProblem([EdgeServer(4, 1, 0.25, 50)] * 4, 20, 50)
    found = ADMM()(problem).allocation
    assert found.round_s == pytest.approx(0.25 + 5 ** (1 / 3), abs=1e-9)
    assert found.round_s == pytest.approx(1.9599759467, abs=1e-9)
    assert found.training == pytest.approx(np.full(4, 2.9240177382), abs=1e-8)
    assert found.consensus == pytest.approx(found.training)
    counted = [ADMM(rho=rho)(problem).iterations for rho in (0.5, 2, 10, 50)]
    assert counted == [13, 33, 133, 623]


def test_permuting_servers_permutes_the_answer():
    order = [2, 0, 1]
    one, other = ADMM()(_problem()), ADMM()(_problem(servers=[R1[i] for i in order]))
    assert other.allocation.round_s == pytest.approx(one.allocation.round_s, rel=1e-12)
    assert other.allocation.training == pytest.approx(one.allocation.training[order], rel=1e-9)


def test_equal_bits_twice():
    one, other = ADMM()(_problem()), ADMM()(_problem())
    assert one.allocation.round_s == other.allocation.round_s
    assert (one.primal == other.primal).all() and (one.dual == other.dual).all()


def test_residuals_reach_the_tolerance_only_at_the_end():
    found = ADMM()(_problem())
    assert max(found.primal[-1], found.dual[-1]) <= 1e-9
    assert (np.maximum(found.primal, found.dual)[:-1] > 1e-9).all()


def test_the_answer_is_stationary():
    """|sum E' + omega| <= 1e-6 omega inside the bounds, at most 0 at the deadline."""
    inner = _problem()
    assert abs(inner.slope(ADMM()(inner).allocation.round_s)) <= 1e-6 * 20
    bound = _problem(0.5, 4.0)
    assert bound.slope(ADMM()(bound).allocation.round_s) <= 0


@pytest.mark.parametrize("k", range(12))
def test_random_instances_agree_with_bisection_and_cvxpy(k):
    problem = _random(k)
    found, exact, central = ADMM()(problem), Bisection()(problem), Central()(problem)
    assert not found.exact
    assert found.allocation.objective == pytest.approx(exact.objective, rel=1e-11)
    assert found.allocation.round_s == pytest.approx(exact.round_s, rel=1e-8)
    assert found.allocation.objective == pytest.approx(central.objective, rel=1e-7)
    assert found.allocation.round_s == pytest.approx(central.round_s, rel=1e-5)
    assert found.allocation.violation < 1e-12


@pytest.mark.slow
def test_two_hundred_random_instances_never_at_the_cap():
    worst = most = 0.0
    for k in range(200):
        problem = _random(k)
        found = ADMM()(problem)
        central = Central()(problem).objective
        assert not found.exact, k
        worst = max(worst, abs(found.allocation.objective / central - 1))
        most = max(most, found.iterations)
    assert worst <= 1e-7 and most < 1000


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"eps": 0}, "eps must be above 0, got 0"),
        ({"most_iterations": 0}, "most_iterations must be 1 or more, got 0"),
        ({"rho": -1.0}, "rho must be above 0 and finite, got -1"),
    ],
)
def test_refuses(wrong, says):
    with pytest.raises(ConfigError, match=says):
        ADMM(**wrong)


def test_a_fixed_penalty_needs_a_deadline_to_start_from():
    with pytest.raises(ConfigError, match="make it finite"):
        ADMM(rho=1.0)(_problem(tau=np.inf))
