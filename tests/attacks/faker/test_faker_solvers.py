"""The closed forms: oracle table, active constraints, no better point."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attacks.faker import _solvers
from attacks.faker._sums import Sums

W = np.array([3, -1, 2, 0.5, 1, -2])
ORACLE = Sums.of(np.ones(6), W**2)


def drawn(seed, count=8):
    rng = np.random.default_rng(seed)
    return rng, Sums.of(rng.integers(1, 20, count).astype(float), rng.uniform(0.1, 5, count))


def test_norm_oracle():
    alpha = _solvers.norm(ORACLE, np.sqrt(19.25))
    expected = [-0.189599, -1.706389, -0.426597, -6.825558, -1.706389, -0.426597]
    assert alpha == pytest.approx(expected, abs=1e-6)
    assert ORACLE.difference(alpha) == pytest.approx(17.281130, abs=1e-6)


def test_distance_oracle():
    alpha = _solvers.distance(ORACLE, 1.0)
    expected = [0.956786, 0.611078, 0.902769, -0.555689, 0.611078, 0.902769]
    assert alpha == pytest.approx(expected, abs=1e-6)
    assert ORACLE.difference(alpha) == pytest.approx(2.571208, abs=1e-6)


def test_product_oracle():
    alpha = _solvers.product(ORACLE, np.sqrt(19.25))
    expected = np.array([0.271135, 0.616843, 0.325152, 1.783610, 0.616843, 0.325152])
    assert alpha / alpha[0] == pytest.approx(expected / expected[0], rel=1e-5)
    assert ORACLE.norm(alpha) == pytest.approx(np.sqrt(19.25), rel=1e-12)
    assert ORACLE.cosine(alpha) == pytest.approx(0.875175, abs=1e-6)
    assert objective(ORACLE, alpha) == pytest.approx(8.640565, abs=1e-6)


def objective(sums, alpha):
    e, n = sums.energies, sums.counts
    return (e * alpha).sum() * (n * alpha).sum() / (e * alpha**2).sum()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_norm_spends_its_budget_and_nothing_random_beats_it(seed, bound):
    rng, sums = drawn(seed)
    alpha = _solvers.norm(sums, bound)
    best = sums.number + bound * np.sqrt(sums.curvature)
    assert sums.norm(alpha) == pytest.approx(bound, rel=1e-9)
    assert sums.difference(alpha) == pytest.approx(best, rel=1e-9)
    for _ in range(50):
        other = rng.standard_normal(8)
        other *= bound / sums.norm(other)
        assert sums.difference(other) <= best * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_distance_spends_its_budget_with_any_signs_and_nothing_random_beats_it(seed, radius):
    rng, sums = drawn(seed)
    signs = 2.0 * rng.integers(0, 2, 8) - 1
    best = radius * np.sqrt(sums.curvature)
    for alpha in (_solvers.distance(sums, radius), _solvers.distance(sums, radius, signs)):
        assert sums.distance(alpha) == pytest.approx(radius, rel=1e-9)
        assert sums.difference(alpha) == pytest.approx(best, rel=1e-9)
    for _ in range(50):
        step = rng.standard_normal(8)
        step *= radius / np.sqrt((sums.energies * step**2).sum())
        assert sums.difference(1 + step) <= best * (1 + 1e-9)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 30), st.floats(1.01, 12))
def test_winsorised_norm_keeps_budget_and_limit_and_is_optimal(seed, bound, limit):
    rng, sums = drawn(seed)
    alpha = _solvers.norm(sums, bound, limit)
    assert np.abs(alpha).max() <= limit * (1 + 1e-12)
    reachable = min(bound, limit * np.sqrt(sums.total))
    assert sums.norm(alpha) == pytest.approx(reachable, rel=1e-9)
    for _ in range(30):
        other = np.clip(rng.standard_normal(8) * rng.uniform(0, 3), -limit, limit)
        if sums.norm(other) <= bound:
            assert sums.difference(other) <= sums.difference(alpha) * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 30), st.floats(1.01, 12), st.booleans())
def test_winsorised_distance_keeps_radius_and_limit(seed, radius, limit, mixed):
    rng, sums = drawn(seed)
    signs = 2.0 * rng.integers(0, 2, 8) - 1 if mixed else -1.0
    alpha = _solvers.distance(sums, radius, signs, limit)
    assert np.abs(alpha).max() <= limit * (1 + 1e-12)
    assert sums.distance(alpha) <= radius * (1 + 1e-9)


def test_water_filling_by_hand():
    """x = (1, 4), e = (1, 1), budget^2 = 5: unlimited kappa^2 = 5/17. Limit 2: the second takes
    4 of 5, the first the remaining 1."""
    filled = _solvers.fill(np.array([1.0, 4.0]), np.ones(2), np.sqrt(5), 2.0)
    assert filled == pytest.approx([1.0, 2.0])
    free = _solvers.fill(np.array([1.0, 4.0]), np.ones(2), np.sqrt(5), None)
    assert free == pytest.approx(np.sqrt(5 / 17) * np.array([1, 4]))


def test_relative_objective_is_the_sign_flip():
    assert _solvers.norm(ORACLE, 2 * np.sqrt(19.25), even=True) == pytest.approx(-2 * np.ones(6))
    half = _solvers.distance(ORACLE, 0.5 * np.sqrt(19.25), even=True)
    assert half == pytest.approx(0.5 * np.ones(6))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_random_positive_scalars_never_exceed_the_product_optimum(seed):
    rng, sums = drawn(seed)
    best = (np.sqrt(sums.total * sums.curvature) + sums.number) / 2
    alpha = _solvers.product(sums, 1.0)
    assert objective(sums, alpha) == pytest.approx(best, rel=1e-12)
    cosine = np.sqrt((1 + sums.number / np.sqrt(sums.total * sums.curvature)) / 2)
    assert sums.cosine(alpha) == pytest.approx(cosine, rel=1e-12) and cosine >= np.sqrt(0.5)
    for _ in range(50):
        assert objective(sums, rng.exponential(size=8)) <= best * (1 + 1e-12)


def test_product_respects_the_limit():
    sums = Sums.of(np.ones(4), np.array([1e-6, 1.0, 2.0, 3.0]))
    assert np.abs(_solvers.product(sums, 3.0)).max() > 10
    capped = _solvers.product(sums, 3.0, 10.0)
    assert np.abs(capped).max() <= 10 and sums.norm(capped) == pytest.approx(3.0)


@settings(max_examples=60, deadline=None)
@given(*[st.floats(0.05, 20)] * 4)
def test_theorem_2_root_with_one_parameter_is_the_papers(energy, inner, square, linear):
    """a = [e(b - l g) + sqrt(e (l^2 + e b)(e g^2 + b))] / [e (l + e g)] for n = 1."""
    e, lam, b, g = energy, inner, square, linear
    paper = (e * (b - lam * g) + np.sqrt(e * (lam**2 + e * b) * (e * g**2 + b))) / (
        e * (lam + e * g)
    )
    ours = _solvers.best_scalar(1, e, lam, b, g)
    assert ours == pytest.approx(paper, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_theorem_2_root_solves_its_quadratic_and_is_a_maximum(seed):
    rng = np.random.default_rng(seed)
    n, e, lam, b, g = rng.uniform(0.1, 5, 5)
    a = _solvers.best_scalar(n, e, lam, b, g)
    value = e * (lam * n + e * g) * a**2 + 2 * e * (lam * g - n * b) * a - b * (e * g + n * lam)
    assert value == pytest.approx(0, abs=1e-9 * (1 + b * (e * g + n * lam)))
    f = lambda a: (lam + e * a) * (g + n * a) / (b + e * a * a)  # noqa: E731
    assert f(a) >= max(f(a * 0.99), f(a * 1.01))


def test_coordinate_ascent_is_monotone_and_reaches_the_closed_form():
    rng, sums = drawn(3)
    alpha, e, n = rng.uniform(0.1, 2, 8), sums.energies, sums.counts
    best, last = (np.sqrt(sums.total * sums.curvature) + sums.number) / 2, 0.0
    for _ in range(400):
        for g in range(8):
            o = np.arange(8) != g
            others = (e[o] * alpha[o]).sum(), (e[o] * alpha[o] ** 2).sum(), (n[o] * alpha[o]).sum()
            alpha[g] = _solvers.best_scalar(n[g], e[g], *others)
            value = objective(sums, alpha)
            assert value >= last * (1 - 1e-12)
            last = value
    assert last == pytest.approx(best, rel=1e-6)


def test_balance_by_hand():
    """e = (9, 1, 4), M^2 = 14, a = -.5: 14 - .25 * 10 = 11.5, the last scalar sqrt(11.5 / 4)."""
    sums = Sums.of(np.ones(3), np.array([9.0, 1, 4]))
    alpha = _solvers.balance(sums, np.array([-0.5, -0.5]), bound=np.sqrt(14))
    assert alpha == pytest.approx([-0.5, -0.5, np.sqrt(11.5 / 4)])
    assert sums.norm(alpha) == pytest.approx(np.sqrt(14))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_balance_hits_either_budget_also_where_the_draw_overspends(seed, budget):
    rng, sums = drawn(seed)
    draw = rng.uniform(-3, 3, 7)
    assert sums.norm(_solvers.balance(sums, draw, bound=budget)) == pytest.approx(budget)
    assert sums.distance(_solvers.balance(sums, draw, radius=budget)) == pytest.approx(budget)


def test_frozen_energy_is_taken_off_the_norm_budget():
    sums = Sums.of(np.ones(2), np.array([1.0, 3.0]), frozen=12.0)
    assert sums.norm(_solvers.norm(sums, 4.0)) == pytest.approx(4.0)
    assert _solvers.norm(sums, 3.0).tolist() == [0.0, 0.0]  # 9 < 12: nothing is left to spend


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_fltrust_weight_is_a_ratio_of_sums(seed):
    """cos(w', g0) |g0| / |w'| = sum e a / sum e a^2 when g0 = w."""
    rng, sums = drawn(seed)
    alpha = rng.uniform(-2, 2, 8)
    assume(sums.norm(alpha) > 1e-3)
    e = sums.energies
    weight = sums.cosine(alpha) * np.sqrt(sums.total) / sums.norm(alpha)
    assert weight == pytest.approx((e * alpha).sum() / (e * alpha**2).sum(), abs=1e-9)
