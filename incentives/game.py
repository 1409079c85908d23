"""Game: solve a leader's problem over followers who answer, and prove the answer.

Paper: none; backward induction of two-stage Stackelberg games (setting of arXiv 2202.10938).

Closed form where its conditions hold at run time, else a search over prices with the followers'
exact joint response inside. Every result carries a certificate; what fails it is UNCERTIFIED and
shown as such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.certificate import Certificate, certify_followers, certify_leader
from incentives.players import Actions, FollowerModel, LeaderProblem
from incentives.search import Tried, maximise

CERTIFIED, UNCERTIFIED, NO_CONTEST = "CERTIFIED", "UNCERTIFIED", "NO_CONTEST"
AT_BOUND = "AT_BOUND"
STARTS = 5


@dataclass(frozen=True)
class Equilibrium:
    """Prices (p,), the followers' actions (n, k), what everybody earns, and the evidence.

    method: closed_form, search or none. status: CERTIFIED, UNCERTIFIED or NO_CONTEST (then
    `reason` says why and nobody acts). flags: AT_BOUND where a price lies on its bound.
    """

    price: np.ndarray
    actions: Actions
    leader_utility: float
    follower_utility: np.ndarray
    certificate: Certificate
    method: str
    status: str
    flags: tuple[str, ...] = ()
    reason: str = ""


def solve(
    leader: LeaderProblem,
    followers: FollowerModel,
    method: Literal["auto", "closed_form", "search"] = "auto",
    tol: float = 1e-8,
    seed: int = 0,
    points: int = 33,
) -> Equilibrium:
    """The leader's best prices against followers in equilibrium.

    method: auto takes the closed form where it holds. tol: > 0, of a price relative to its bound.
    seed: of the certificate's draws. points: >= 3 grid prices per dimension; the search and its
    certificate cost points^p equilibria, so lower it for n above 1e4. ConfigError where a closed
    form was asked for and does not hold.
    """
    if method not in ("auto", "closed_form", "search"):
        raise ConfigError(f"method is auto, closed_form or search, got '{method}'.")
    if not tol > 0 or points < 3:
        raise ConfigError(f"solve needs tol > 0 and points >= 3, got {tol} and {points}.")
    if reason := followers.obstacle(leader.bounds[:, 1]):
        return _nobody(leader, followers, reason)

    def ask(price: np.ndarray) -> tuple[float, float]:
        actions = followers.equilibrium(price)
        return leader.utility(price, actions), leader.payment(price, actions)

    tried = Tried(ask)
    price = None if method == "search" else leader.closed_form()
    if price is None and method == "closed_form":
        raise ConfigError(
            "The closed form does not hold here: a budget binds, a bound cuts it off or the model "
            "has none. Use method=auto."
        )
    used = "search" if price is None else "closed_form"
    if price is None:
        maximise(tried, leader.bounds, points, STARTS, tol)
        price, _ = tried.best()
    return _finish(leader, followers, price, tried, used, tol, seed, points)


def _finish(leader, followers, price, tried, used, tol, seed, points) -> Equilibrium:
    actions = followers.equilibrium(price)
    value = leader.utility(price, actions)
    begin = perf_counter()
    gap = certify_leader(tried, leader.bounds, price, points, seed=seed, tol=tol)
    leader_s = perf_counter() - begin
    proof = certify_followers(followers, price, actions, seed)
    proof = replace(
        proof, eps_leader=gap, leader_scale=abs(value), seconds=proof.seconds + leader_s
    )
    return Equilibrium(
        price=price,
        actions=actions,
        leader_utility=value,
        follower_utility=followers.utility(price, actions),
        certificate=proof,
        method=used,
        status=CERTIFIED if proof.holds else UNCERTIFIED,
        flags=(AT_BOUND,) if _touches(price, leader.bounds) else (),
    )


def _touches(price: np.ndarray, bounds: np.ndarray) -> bool:
    near = 1e-9 * np.maximum(bounds[:, 1], 1e-300)
    return bool(((price <= bounds[:, 0] + near) | (price >= bounds[:, 1] - near)).any())


def _nobody(leader: LeaderProblem, followers: FollowerModel, reason: str) -> Equilibrium:
    price = leader.bounds[:, 0].copy()
    nothing = np.zeros((followers.n, len(followers.parts)))
    return Equilibrium(
        price=price,
        actions=nothing,
        leader_utility=0.0,
        follower_utility=np.zeros(followers.n),
        certificate=Certificate(np.nan, np.nan, 0.0),  # of nothing: it does not hold
        method="none",
        status=NO_CONTEST,
        reason=reason,
    )
