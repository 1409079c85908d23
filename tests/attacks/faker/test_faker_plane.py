"""Solvers C and 2D: identities, oracle, optimality against a general solver, winsorising."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.faker._plane import best_point, best_point_beside_frozen, direction, place
from attacks.faker._sums import Sums

ORACLE = Sums.of(np.ones(6), np.array([3, -1, 2, 0.5, 1, -2]) ** 2)


def drawn(seed, count=6):
    rng = np.random.default_rng(seed)
    return rng, Sums.of(rng.integers(1, 20, count).astype(float), rng.uniform(0.1, 5, count))


def cosine_solution(sums, tau, limit=None):
    return place(sums, tau, np.sqrt(sums.total * (1 - tau**2)), limit)


def test_cosine_oracle():
    expected = [0.502143, -1.280016, 0.223681, -7.294800, -1.280016, 0.223681]
    assert cosine_solution(ORACLE, 0.1) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1, 1))
def test_cosine_identities(seed, tau):
    """cos = tau, |w'| = |w|, |w' - w|^2 = 2E(1 - tau), sum n(1 - a) = N(1-tau) + sqrt((1-tau^2)EK),
    and no attack of that cosine and norm is farther away."""
    _, sums = drawn(seed)
    alpha = cosine_solution(sums, tau)
    linear = sums.number * (1 - tau) + np.sqrt((1 - tau**2) * sums.total * sums.spread)
    assert sums.cosine(alpha) == pytest.approx(tau, abs=1e-9)
    assert sums.norm(alpha) == pytest.approx(np.sqrt(sums.total), rel=1e-9)
    assert sums.distance(alpha) ** 2 == pytest.approx(2 * sums.total * (1 - tau), abs=1e-8)
    assert (sums.counts * (1 - alpha)).sum() == pytest.approx(linear, rel=1e-9, abs=1e-9)
    assert sums.difference(alpha) >= linear - 1e-9


def test_2d_with_the_norm_kept_is_the_cosine_solver_where_the_cone_binds():
    p, v = best_point(ORACLE, bound=np.sqrt(19.25), tau=0.5, floor=0.9 * np.sqrt(19.25))
    assert (p, v) == pytest.approx((0.5, np.sqrt(19.25 * 0.75)))


MIXES = [
    dict(bound=1.0),
    dict(radius=0.7),
    dict(bound=1.0, radius=0.8),
    dict(bound=1.0, tau=0.5),
    dict(bound=1.1, radius=0.9, tau=0.3),
    dict(bound=1.0, radius=1.2, tau=0.0),
    dict(radius=0.9, tau=0.6),
    dict(bound=1.2, radius=2.0, tau=-0.4),
]


@pytest.mark.parametrize("mix,seed", list(product(MIXES, range(3))))
def test_2d_is_no_worse_than_a_general_solver(mix, seed):
    """Maximise sum n(1 - a) by SLSQP from several starts; budgets in units of |w|."""
    from scipy.optimize import minimize

    rng, sums = drawn(seed)
    unit = np.sqrt(sums.total)
    budgets = {k: x * (1 if k == "tau" else unit) for k, x in mix.items()}
    e, n = sums.energies, sums.counts
    checks = []
    if "bound" in budgets:
        checks.append(lambda a: budgets["bound"] ** 2 - (e * a**2).sum())
    if "radius" in budgets:
        checks.append(lambda a: budgets["radius"] ** 2 - (e * (a - 1) ** 2).sum())
    if "tau" in budgets:
        checks.append(
            lambda a: (e * a).sum() - budgets["tau"] * unit * np.sqrt((e * a**2).sum() + 1e-30)
        )
    ours = place(sums, *best_point(sums, **budgets))
    for check in checks:
        assert check(ours) >= -1e-6 * sums.total
    value = (n * (1 - ours)).sum()
    for _ in range(4):
        found = minimize(
            lambda a: (n * a).sum() / n.sum(),
            rng.uniform(0.2, 1, 6),
            jac=lambda a: n / n.sum(),
            constraints=[{"type": "ineq", "fun": check} for check in checks],
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-12},
        )
        if all(check(found.x) >= -1e-9 for check in checks):
            assert value >= (n * (1 - found.x)).sum() - 1e-6 * abs(value)
    assert sums.difference(ours) >= value - 1e-9


def test_the_zero_vector_is_kept_out_by_the_floor():
    """K = 0 makes a shorter row always better; the floor keeps 90 % of the norm."""
    sums = Sums.of(np.full(4, 2.0), np.full(4, 1.0))
    assert best_point(sums, radius=2.0) == pytest.approx((0.0, 0.0), abs=1e-9)
    p, v = best_point(sums, bound=2.0, tau=0.5, floor=1.8)
    assert np.hypot(2 * p, v) >= 1.8 * (1 - 1e-9)


def test_without_a_feasible_point_the_honest_row_stays():
    assert best_point(ORACLE, bound=1.0, radius=0.1) == (1.0, 0.0)


def test_relative_objective_goes_farther():
    budgets = dict(bound=np.sqrt(19.25), tau=-1.0)
    assert best_point(ORACLE, even=True, **budgets) == pytest.approx((-1.0, 0.0))
    assert best_point(ORACLE, **budgets)[1] > 0


@pytest.mark.parametrize("tau", [-1.0, 0.0, 1.0])
def test_extreme_cosines(tau):
    """1 is the honest row, 0 orthogonal, -1 the opposite where that is best."""
    p, v = best_point(ORACLE, bound=np.sqrt(19.25), tau=tau, floor=0.9 * np.sqrt(19.25))
    alpha = place(ORACLE, p, v)
    assert ORACLE.cosine(alpha) >= tau - 1e-9
    if tau == 1:
        assert p * p * 19.25 >= 0.81 * 19.25 - 1e-6 and v == pytest.approx(0, abs=1e-6)


def test_equal_ratios_take_an_alternating_direction():
    """K = 0: any e-orthonormal direction serves; ours is -1, 1, -1, 1."""
    sums = Sums.of(np.full(4, 2.0), np.full(4, 1.0))
    assert sums.spread == 0
    assert direction(sums, sums.ratios).tolist() == [-0.5, 0.5, -0.5, 0.5]
    assert sums.cosine(cosine_solution(sums, 0.3)) == pytest.approx(0.3)


def test_a_single_group_can_only_be_scaled():
    sums = Sums.of(np.array([5.0]), np.array([4.0]))
    assert best_point(sums, bound=2.0, tau=0.5, floor=1.8) == pytest.approx((1.0, 0.0))
    assert best_point(sums, bound=2.0, tau=-1.0, floor=1.8) == pytest.approx((-1.0, 0.0))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.9, 0.9), st.integers(3, 40), st.floats(3.0, 12))
def test_winsorising_keeps_the_identities_exact(seed, tau, count, limit):
    rng = np.random.default_rng(seed)
    sums = Sums.of(np.ones(count), rng.standard_normal(count) ** 2 + 1e-9)
    alpha = cosine_solution(sums, tau, limit)
    assert np.abs(alpha).max() <= limit * (1 + 1e-9)
    assert sums.norm(alpha) <= np.sqrt(sums.total) * (1 + 1e-9)
    assert sums.cosine(alpha) >= tau - 1e-9
    if sums.norm(alpha) > np.sqrt(sums.total) * (1 - 1e-9):
        assert sums.cosine(alpha) == pytest.approx(tau, abs=1e-9)


def test_winsorising_meets_the_budget_where_there_is_room():
    rng = np.random.default_rng(0)
    sums = Sums.of(np.ones(200), rng.standard_normal(200) ** 2)
    free, capped = cosine_solution(sums, 0.1), cosine_solution(sums, 0.1, 10.0)
    assert np.abs(free).max() > 50 and np.abs(capped).max() <= 10
    assert sums.cosine(capped) == pytest.approx(0.1, abs=1e-9)
    assert sums.norm(capped) == pytest.approx(np.sqrt(sums.total), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 3), st.floats(0.0, 0.95))
def test_budgets_hold_beside_frozen_energy(seed, frozen, tau):
    """Norm and cosine count the energy that must not move."""
    rng = np.random.default_rng(seed)
    sums = Sums.of(np.ones(6), rng.uniform(0.1, 5, 6), frozen=frozen)
    bound = np.sqrt(sums.total + frozen)
    p, v = best_point_beside_frozen(sums, bound=bound, radius=None, tau=tau, floor=0.9 * bound)
    alpha = place(sums, p, v)
    assert 0.9 * bound * (1 - 1e-6) <= sums.norm(alpha) <= bound * (1 + 1e-6)
    assert sums.cosine(alpha) >= tau - 1e-6


def test_frozen_energy_above_the_bound_leaves_the_honest_row():
    sums = Sums.of(np.ones(2), np.ones(2), frozen=9.0)
    args = dict(bound=2.0, radius=None, tau=0.5, floor=0.0)
    assert best_point_beside_frozen(sums, **args) == (1.0, 0.0)
