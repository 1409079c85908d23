"""Certificate: evidence that nobody gains by moving alone, found by trying hard to gain.

Paper: none; our derivation (the definition of a Stackelberg-Nash equilibrium, checked numerically).

The gap of follower u is what it gains by its best deviation while the others' actions stay, in
proportion to max(|U_u|, mean |U| / 1000): prizes shared by many leave payoffs of R / n^2, beside
which an absolute gap would say nothing. Where payoffs add up over the parts of an action, each part is
measured against what it earns itself, or a large income would hide a wrong small action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from fedalign.core.seeds import Seeds
from incentives.players import Actions, FollowerModel
from incentives.search import Tried, grid, refine

FOLLOWER, LEADER, FEASIBILITY = 1e-6, 1e-4, 1e-9  # what counts as certified
SHARE = 1e-3  # of the mean payoff, the least scale of a follower


@dataclass(frozen=True)
class Certificate:
    """What the best deviation found would gain.

    eps_follower: relative, see above. eps_leader: absolute, NaN where no leader was asked.
    feasibility: largest violation, relative to the budget. leader_scale: |V|. checks: kind of
    check -> its gap; None where cvxpy is absent or a model is no concave program; cvxpy_short is
    how far the solver's own answers fell below ours. seconds: what looking for deviations took.
    """

    eps_follower: float
    eps_leader: float
    feasibility: float
    leader_scale: float = 0.0
    checks: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        followers = self.eps_follower <= FOLLOWER and self.feasibility <= FEASIBILITY
        allowed = LEADER * max(1e-9, self.leader_scale)
        return followers and (np.isnan(self.eps_leader) or self.eps_leader <= allowed)


def certify_followers(
    followers: FollowerModel,
    price: np.ndarray,
    actions: Actions,
    seed: int = 0,
    sample: int = 32,
    draws: int = 1000,
) -> Certificate:
    """Every follower against its best response; a seeded sample of at most `sample` followers
    against cvxpy and against `draws` random feasible deviations each."""
    begin = perf_counter()
    price = np.atleast_1d(np.asarray(price, dtype=np.float64))
    if not np.isfinite(actions).all():
        return Certificate(np.inf, np.nan, np.inf, seconds=perf_counter() - begin)
    earned = followers.payoff(price, actions, actions)  # (n,)
    scale = np.maximum(np.abs(earned), SHARE * np.abs(earned).mean())
    scale = np.where(scale > 0, scale, 1.0)  # where nobody earns, payoffs count as they are
    best = followers.best_response(price, actions)
    gain = (followers.payoff(price, best, actions) - earned) / scale
    rng = Seeds(seed).at("certificate")
    who = np.sort(rng.choice(followers.n, min(sample, followers.n), replace=False))
    found, short = _solver(followers, price, actions, best, who, scale)
    checks = {
        "best_response": _largest(gain),
        "parts": _parts(followers, price, actions, best),
        "random": _random(followers, price, actions, who, scale, draws, rng),
        "cvxpy": found,
    }
    return Certificate(
        eps_follower=max(v for v in checks.values() if v is not None),
        eps_leader=np.nan,
        feasibility=float(followers.feasible(actions).max()),
        checks={**checks, "cvxpy_short": short},
        seconds=perf_counter() - begin,
    )


def certify_leader(
    tried: Tried,
    bounds: np.ndarray,
    price: np.ndarray,
    points: int = 33,
    draws: int = 200,
    seed: int = 0,
    tol: float = 1e-8,
) -> float:
    """The most that the leader gains at any price of the grid, of `draws` random ones (half over
    the box, half near the answer), or on the way up from the best of all these."""
    value = tried(price)
    for other in grid(bounds, points):
        tried(other)
    rng = Seeds(seed).at("leader_certificate")
    low, width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
    for i in range(draws):
        unit = rng.random(len(bounds))
        other = low + width * unit if i % 2 else price * (1 + 0.1 * (2 * unit - 1))
        tried(np.clip(other, bounds[:, 0], bounds[:, 1]))
    refine(tried, bounds, tried.best()[0], tol)
    return max(0.0, max(value for value, _ in tried.found.values()) - value)


def _parts(followers, price, actions, best) -> float | None:
    """The most that changing one part alone gains, relative to what that part earns."""
    if followers.pieces(price, actions, np.arange(1)) is None:
        return None  # payoffs that do not add up
    gaps = []
    for i in range(actions.shape[1]):
        room = followers.budget - (actions.sum(axis=1) - actions[:, i])
        now, then = np.zeros_like(actions), np.zeros_like(actions)
        now[:, i], then[:, i] = actions[:, i], np.clip(best[:, i], 0.0, np.maximum(room, 0.0))
        earned = followers.payoff(price, now, actions)
        scale = np.maximum(np.abs(earned), SHARE * np.abs(earned).mean())
        gain = followers.payoff(price, then, actions) - earned
        gaps.append(_largest(gain / np.where(scale > 0, scale, 1.0)))
    return max(gaps)


def _random(followers, price, actions, who, scale, draws, rng) -> float:
    """Half of the deviations spread over the budget, half change the present action."""
    k = actions.shape[1]
    size = np.minimum(followers.budget[who], 10 * (actions[who].sum(axis=1) + actions.mean() * k))
    spread = rng.dirichlet(np.ones(k + 1), (len(who), draws))[..., :k] * size[:, None, None]
    near = actions[who][:, None, :] * np.exp(0.2 * rng.standard_normal((len(who), draws, k)))
    tried = np.where((np.arange(draws) % 2 == 0)[None, :, None], spread, near)
    total = tried.sum(axis=2, keepdims=True)
    limit = followers.budget[who][:, None, None]
    inside = np.divide(limit, total, out=np.ones_like(total), where=total > limit)
    tried = tried * inside
    earned = followers.payoff(price, actions[who], actions, who)
    gained = followers.payoff(price, tried, actions, who) - earned[:, None]
    return _largest(gained / scale[who][:, None])


def _solver(followers, price, actions, best, who, scale) -> tuple[float | None, float | None]:
    """The most that cvxpy's answers gain, and the most that they lose."""
    pieces = followers.pieces(price, actions, who)
    if pieces is None:
        return None, None
    try:
        from incentives.cross_check import solve_followers

        unit = np.maximum(actions[who].sum(axis=1), best[who].sum(axis=1))
        typical = actions.sum(axis=1).mean()
        unit = np.where(unit > 0, unit, typical if typical > 0 else 1.0)
        solved = solve_followers(pieces, unit, scale[who])
    except ModuleNotFoundError:
        return None, None
    done = ~np.isnan(solved.actions).any(axis=1)
    if not done.any():
        return None, None
    earned = followers.payoff(price, actions[who], actions, who)
    gained = followers.payoff(price, np.nan_to_num(solved.actions), actions, who) - earned
    gained = gained / scale[who]
    acting = done & actions[who].any(axis=1)  # staying away is no point of the program
    return _largest(gained[done]), _largest(-gained[acting])


def _largest(gain: np.ndarray) -> float:
    """At least 0: staying is a deviation too. What is not a number counts as infinite."""
    return abs(float(np.max(np.where(np.isnan(gain), np.inf, gain), initial=0.0)))
