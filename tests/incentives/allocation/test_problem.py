"""One server's value function, the problem's limits, and what moves the optimum which way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.allocation.allocation import Allocation
from incentives.allocation.baselines.full_speed import FullSpeed
from incentives.allocation.baselines.half_and_half import HalfAndHalf
from incentives.allocation.baselines.mec_first import MECFirst
from incentives.allocation.baselines.random_feasible import RandomFeasible
from incentives.allocation.bisection import Bisection
from incentives.allocation.central import Central
from incentives.allocation.edge_server import EdgeServer
from incentives.allocation.edge_servers import EdgeServers
from incentives.allocation.problem import AllocationProblem
from incentives.allocation.round_cost import RoundCost

ONE = EdgeServer(4, 1, 0.2, 8, (1, 2, 0.5), (1, 2, 1))


def _cost(training, consensus, capacity, t=0.0):
    return RoundCost(*(np.array([x], dtype=float) for x in (training, consensus, t, capacity)), 0.1)


def _problems(k, **changes):
    servers = EdgeServers(3)(Seeds(k).at("servers"))
    return AllocationProblem(servers, **({"omega": 20.0, "deadline_s": 20.0} | changes))


def test_value_function_with_room():
    """C = 4 + 1, s = 2.5: f = 2 each, E = .1 x 5^3 / 2.5^2 = 2, slope -.2 x 125 / 2.5^3 = -1.6."""
    cost, at = _cost(4, 1, 10), np.array([2.5])
    assert cost.split(at) == (pytest.approx([2.0]), pytest.approx([2.0]))
    assert cost.energy(at) == pytest.approx([2.0])
    assert cost.slope(at) == pytest.approx([-1.6])


def test_value_function_where_capacity_binds():
    """C1 = 4, C2 = 1, F = 3, s = 3.25: 3.25 f^2 - 12.75 f + 12 = 0, f = (12.75 -+ sqrt(6.5625)) /
    6.5 = 1.5674 or 2.3556; both take 3.25 s, the first needs .1 (4 x 2.457 + 2.052) = 1.188 J."""
    cost, at = _cost(4, 1, 3), np.array([3.25])
    f1, f2 = cost.split(at)
    assert f1 + f2 == pytest.approx([3.0])
    assert 4 / f1 + 1 / f2 == pytest.approx([3.25])
    assert f1 == pytest.approx([1.5674], abs=5e-5)
    assert cost.energy(at) == pytest.approx([1.188], abs=5e-4)
    other = (12.75 + np.sqrt(12.75**2 - 4 * 3.25 * 12)) / (2 * 3.25)  # the root of more energy
    assert 4 / other + 1 / (3 - other) == pytest.approx(3.25)
    assert cost.energy(at)[0] < 0.1 * (4 * other**2 + (3 - other) ** 2)


def test_the_fastest_round_uses_all_capacity_in_proportion_to_square_roots():
    """C1 = 4, C2 = 1, F = 3: (2 + 1)^2 / 3 = 3 s at f = (2, 1)."""
    cost = _cost(4, 1, 3)
    assert cost.fastest == pytest.approx([3.0])
    assert cost.split(cost.fastest) == (pytest.approx([2.0]), pytest.approx([1.0]))
    assert cost.slope(cost.fastest * (1 + 1e-13))[0] < -1e4


@settings(deadline=None, max_examples=60)
@given(
    training=st.floats(0.1, 50), consensus=st.floats(0.1, 50), capacity=st.floats(0.5, 50),
    more=st.floats(1e-3, 3.0),
)  # fmt: skip
def test_value_function_is_feasible_decreasing_convex_and_has_this_slope(
    training, consensus, capacity, more
):
    cost = _cost(training, consensus, capacity)
    at = cost.fastest * (1 + more)
    f1, f2 = cost.split(at)
    assert (f1 > 0).all() and (f2 > 0).all() and (f1 + f2 <= capacity * (1 + 1e-9)).all()
    assert training / f1 + consensus / f2 == pytest.approx(at, rel=1e-9)
    h = at * 1e-5 * min(1.0, more)
    low, mid, high = (cost.energy(x) for x in (at - h, at, at + h))
    assert low >= mid >= high
    assert low + high >= 2 * mid * (1 - 1e-12)
    assert cost.slope(at)[0] == pytest.approx(((high - low) / (2 * h))[0], rel=2e-2)
    assert cost.slope(at - h) <= cost.slope(at) * (1 - 1e-12) + 1e-12


@settings(deadline=None, max_examples=40)
@given(training=st.floats(0.1, 50), consensus=st.floats(0.1, 50), share=st.floats(0.01, 0.99))
def test_no_split_in_time_needs_less(training, consensus, share):
    """Brute force over f1 where capacity binds: every feasible pair costs at least as much."""
    fastest = (np.sqrt(training) + np.sqrt(consensus)) ** 2
    s = fastest + share * (2 * (training + consensus) - fastest)  # F = 1
    cost = _cost(training, consensus, 1.0)
    first = np.linspace(1e-3, 1 - 1e-3, 999)
    second = np.minimum(1 - first, 1.0)
    in_time = training / first + consensus / second <= s
    energy = 0.1 * (training * first**2 + consensus * second**2)[in_time]
    assert (energy >= cost.energy(np.array([s]))[0] * (1 - 1e-9)).all()


@pytest.mark.parametrize("k", range(8))
def test_on_demand_never_costs_more_than_equal(k):
    demand, equal = (Bisection()(_problems(k, strategy=s)) for s in ("on_demand", "equal"))
    assert demand.objective <= equal.objective * (1 + 1e-12)


@pytest.mark.parametrize("k", range(4))
def test_time_falls_with_omega_and_objective_rises_with_a_tighter_deadline(k):
    times = [Bisection()(_problems(k, omega=omega)).round_s for omega in (0.5, 5, 50, 500)]
    assert times == sorted(times, reverse=True) and times[0] > times[-1]
    shortest = _problems(k).shortest
    costs = [
        Bisection()(_problems(k, omega=0.5, deadline_s=shortest * slack)).objective
        for slack in (3.0, 1.5, 1.1, 1.01)
    ]
    assert costs == sorted(costs) and costs[-1] > costs[0]


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("strategy", ["equal", "on_demand"])
def test_rules_are_feasible_and_cost_at_least_the_optimum(k, strategy):
    problem = _problems(k, strategy=strategy)
    best = Bisection()(problem).objective
    rules = [FullSpeed()(problem), MECFirst()(problem), HalfAndHalf()(problem)]
    rules += [RandomFeasible()(problem, Seeds(s).at("rule")) for s in range(5)]
    for found in rules:
        assert found.violation < 1e-9
        assert found.objective >= best * (1 - 1e-12)


def test_full_speed_and_half_and_half_by_hand():
    """C = (4, 1), t = .2, F' = 8 - 2.5 = 5.5: full (2, 1) x 5.5/3 takes .2 + 9/5.5; half 2.75 each
    takes .2 + 5/2.75."""
    problem = AllocationProblem([ONE], 20.0, 6.0)
    fast, half = FullSpeed()(problem), HalfAndHalf()(problem)
    assert fast.training == pytest.approx([11 / 3]) and fast.consensus == pytest.approx([11 / 6])
    assert fast.round_s == pytest.approx(0.2 + 9 / 5.5)
    assert half.round_s == pytest.approx(0.2 + 5 / 2.75)


def test_mec_first_leaves_the_round_its_least():
    """tau - t = 3 s: f = (2, 1) x 3/3 = (2, 1); mobile-edge gets 8 - 3 = 5 in proportion 2:2:1."""
    found = MECFirst()(AllocationProblem([ONE], 20.0, 3.2))
    assert found.training == pytest.approx([2.0]) and found.consensus == pytest.approx([1.0])
    assert found.mec[0] == pytest.approx([2.0, 2.0, 1.0])


def test_half_and_half_may_miss_a_deadline_and_says_so():
    problem = AllocationProblem([EdgeServer(9, 1, 0.0, 4)], 1.0, 4.1)  # fastest (3 + 1)^2 / 4 = 4
    found = HalfAndHalf()(problem)
    assert found.round_s == pytest.approx(5.0)
    assert found.violation == pytest.approx(5 / 4.1 - 1)


def test_deadline_at_the_shortest_round_is_still_solved():
    problem = _problems(0)
    tight = _problems(0, deadline_s=problem.shortest, omega=1e-3)
    found = Bisection()(tight)
    assert found.round_s <= problem.shortest and found.violation < 1e-9


def test_without_mobile_edge_tasks_and_without_deadline():
    """T* = (2 x .1 x 5^3 / 20)^(1/3) + .25 with one server."""
    problem = AllocationProblem([EdgeServer(4, 1, 0.25, 50)], 20.0)
    found = Bisection()(problem)
    assert found.round_s == pytest.approx(0.25 + 1.25 ** (1 / 3))
    assert Central()(problem).objective == pytest.approx(found.objective, rel=1e-8)


def test_allocation_notices_what_it_violates():
    problem = AllocationProblem([ONE], 20.0, 6.0)
    fine = Allocation.at(problem, 3.0)
    assert fine.violation < 1e-12
    slow = Allocation(problem, 3.0, fine.training / 1.1, fine.consensus, fine.mec)
    assert slow.violation > 0.01
    greedy = Allocation(problem, 3.0, fine.training + 8, fine.consensus, fine.mec)
    assert greedy.violation > 0.5
    late = Allocation(problem, 3.0, fine.training, fine.consensus, [fine.mec[0] / 2])
    assert late.violation == pytest.approx(1.0)


def test_infeasible_deadlines_name_the_server_and_by_how_much():
    busy = EdgeServer(4, 1, 0.2, 2, (1, 2, 0.5), (1, 2, 1))
    with pytest.raises(ConfigError, match=r"Server 1 needs 2\.5 GHz .* has 2, 0\.5 short"):
        AllocationProblem([ONE, busy], 20.0, 6.0)
    with pytest.raises(
        ConfigError, match=r"Server 0 needs 3 GHz .*\(equal\).* has 2\.8, 0\.2 short"
    ):
        AllocationProblem([EdgeServer(4, 1, 0.2, 2.8, (1, 2, 0.5), (1, 2, 1))], 20.0, 6.0, "equal")
    slow = EdgeServer(4, 1, 0.5, 3)  # .5 + 9/3 = 3.5 s
    with pytest.raises(
        ConfigError, match=r"Server 1 cannot finish .* less than 3\.5 s, 0\.5 s after .* 3 s"
    ):
        AllocationProblem([ONE, slow], 20.0, 3.0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AllocationProblem([], 1.0), "at least one server"),
        (lambda: AllocationProblem([ONE], 0.0), "omega must be above 0"),
        (lambda: AllocationProblem([ONE], np.nan), "omega must be above 0 and finite, got nan"),
        (lambda: AllocationProblem([ONE], 1.0, kappa=-1.0), "kappa must be above 0"),
        (lambda: AllocationProblem([ONE], 1.0, 0.0), "deadline_s must be above 0"),
        (lambda: AllocationProblem([ONE], 1.0, strategy="fair"), "equal or on_demand, got 'fair'"),
        (lambda: EdgeServer(0, 1, 0, 8), "training must be above 0"),
        (lambda: EdgeServer(4, 1, -1, 8), "communication_s must be 0 or more"),
        (lambda: EdgeServer(4, 1, 0, np.inf), "capacity must be above 0 and finite, got inf"),
        (lambda: EdgeServer(4, 1, 0, 8, (1,), ()), "1 tasks and 0 deadlines"),
        (lambda: EdgeServer(4, 1, 0, 8, (1,), (0,)), "deadlines_s must be above 0"),
        (lambda: EdgeServers(0), "one server or more"),
        (lambda: Central(1.0), "tolerance must lie in"),
        (lambda: MECFirst()(AllocationProblem([ONE], 1.0)), "make it finite"),
        (
            lambda: RandomFeasible()(AllocationProblem([ONE], 1.0), Seeds(0).at("x")),
            "finite deadline_s",
        ),
    ],
)
def test_refuses(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
