"""User-defined followers: they repeat M1 and the contest, and refuse what is not concave or DPP."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from incentives.certificate import certify_followers
from incentives.game import CERTIFIED, solve
from incentives.models.concave_followers import ConcaveFollowers
from incentives.models.model_owner import ModelOwner
from tests.incentives.three_followers import MINING_COST, TRAINING_COST, priced

cp = pytest.importorskip("cvxpy", reason="cvxpy is absent: pip install cvxpy")


def quadratic(z, given):
    """M1 as a user would write it, with q = h = 1."""
    earned = given["r_t"] * z[0] + given["r_m"] * z[1]
    return earned - given["a"] * cp.square(z[0]) - given["b"] * cp.square(z[1])


def concave(**changed):
    fields = {
        "earns": quadratic, "types": {"a": TRAINING_COST, "b": MINING_COST},
        "names": ("r_t", "r_m"), "most": (20.0, 10.0), "parts": ("training", "mining"),
        "budget": (2.0, 1.5, 3.0),
    } | changed  # fmt: skip
    return ConcaveFollowers(**fields)


def test_repeats_priced_effort():
    ours = priced((2, 1.5, 3), quality=1.0, efficiency=1.0).equilibrium((1.5, 1.0))
    market = concave()
    found = market.equilibrium((1.5, 1.0))
    np.testing.assert_allclose(found, ours, atol=1e-6)
    same = priced((2, 1.5, 3), quality=1.0, efficiency=1.0)
    price = np.array([1.5, 1.0])
    np.testing.assert_allclose(
        market.payoff(price, ours, ours), same.payoff(price, ours, ours), rtol=1e-12
    )


def test_a_root_of_effort_by_hand():
    """r sqrt(z) - c z: z = (r / (2 c))^2 = (2 / 2)^2 = 1, no budget."""
    market = ConcaveFollowers(
        lambda z, given: given["r"] * cp.sqrt(z[0]) - given["c"] * z[0],
        {"c": (1.0, 2.0)}, ("r",), (10.0,),
    )  # fmt: skip
    np.testing.assert_allclose(market.equilibrium(2)[:, 0], [1.0, 0.25], atol=1e-5)


def test_the_leader_prices_them_and_is_certified():
    """g ln(1 + sum z) - r sum z over z = r/2 each: as M1 with S = 2 (1/2), r = (-1+sqrt(1+2 g))/2."""
    market = ConcaveFollowers(
        lambda z, given: given["r"] * z[0] - given["a"] * cp.square(z[0]),
        {"a": (1.0, 1.0)}, ("r",), (8.0,),
    )  # fmt: skip
    answer = solve(ModelOwner(market, (8.0,), (1.0,)), market, points=9, tol=1e-6)
    assert answer.status == CERTIFIED and answer.method == "search"
    assert answer.price[0] == pytest.approx((-1 + np.sqrt(1 + 2 * 8)) / 2, rel=1e-3)


def test_a_coupled_payoff_is_solved_by_iteration():
    """A common good: U = r ln(1 + z + Y) - c z, so z = r / c - 1 - Y while positive. With costs
    (1, 2) and r = 4 the cheap one wants 3 in all, the dear one 1: the cheap one does it alone."""
    market = ConcaveFollowers(
        lambda z, given: given["r"] * cp.sum(cp.log1p(given["total"])) - given["c"] * z[0],
        {"c": (1.0, 2.0)}, ("r",), (9.0,), budget=10.0, coupled=True,
    )  # fmt: skip
    np.testing.assert_allclose(market.equilibrium(4)[:, 0], [3.0, 0.0], atol=1e-4)


def test_the_certificate_tells_an_answer_from_a_guess():
    """There is nothing independent of cvxpy to compare with, so that check stays empty."""
    market = concave()
    price = np.array([1.5, 1.0])
    proof = certify_followers(market, price, market.equilibrium(price), draws=40)
    assert proof.eps_follower < 1e-6 and proof.checks["cvxpy"] is None
    assert not certify_followers(market, price, np.full((3, 2), 0.3), draws=40).holds


@pytest.mark.parametrize(
    "earns",
    [
        lambda z, given: given["r_t"] * cp.square(z[0]) + z[1],  # convex
        lambda z, given: given["r_t"] * given["a"] * z[0] - z[1],  # two parameters multiplied
    ],
)
def test_what_is_not_concave_or_not_dpp_is_refused(earns):
    with pytest.raises(ConfigError, match="concave in the action and DPP"):
        concave(earns=earns)


def test_an_unbounded_payoff_is_refused_with_the_cure():
    market = ConcaveFollowers(
        lambda z, given: given["r"] * z[0] - given["c"] * z[0], {"c": 1.0}, ("r",), (9.0,)
    )
    with pytest.raises(ConfigError, match=r"follower 0 .* finite budget"):
        market.equilibrium(2)


def test_a_type_may_not_be_called_like_a_price():
    with pytest.raises(ConfigError, match="a names two things"):
        concave(names=("a", "r_m"))
