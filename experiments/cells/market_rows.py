"""MarketRows: what a table says of one outcome of a game, whatever rule set its prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from incentives import metrics
from incentives.game import Equilibrium
from incentives.models.model_owner import ModelOwner
from incentives.players import Actions, FollowerModel
from incentives.social_optimum import social_optimum


@dataclass(frozen=True)
class MarketRows:
    """One realised market and the best that a planner could make of it. optimum: welfare."""

    owner: ModelOwner
    optimum: float

    @staticmethod
    def of(owner: ModelOwner) -> MarketRows:
        gains = np.maximum(owner.gains, 0.0)
        technology = owner.followers.technology()
        best = social_optimum(technology, gains, owner.scales)
        return MarketRows(owner, technology.welfare(best, owner.gains, owner.scales))

    def outcome(self, price: np.ndarray, actions: Actions) -> dict[str, Any]:
        """The columns of the main table."""
        followers = self.owner.followers
        earned = followers.utility(price, actions)
        paid = followers.payments(price, actions)
        value = self.owner.utility(price, actions)
        total = metrics.welfare(value, earned)
        return {
            "MO utility": value,
            "clients' utility": float(earned.sum()),
            "welfare": total,
            "efficiency": float(metrics.efficiency(total, self.optimum)),
            "Jain(U)": float(metrics.jain(earned)),
            "Gini(pay)": float(metrics.gini(paid)),
            "IR share": metrics.rationality(earned).share,
            "paid": float(paid.sum()),
            "envy": metrics.envy(_bundles(followers, price, actions)),
        }


def evidence(found: Equilibrium, eps_follower: float | None = None) -> dict[str, Any]:
    """The columns of the certificate table. eps_follower: where it was found elsewhere."""
    proof = found.certificate
    return {
        "method": found.method,
        "eps followers": proof.eps_follower if eps_follower is None else eps_follower,
        "eps leader / |V|": proof.eps_leader / max(proof.leader_scale, 1e-9),
        "violation": proof.feasibility,
        "status": " ".join([found.status, *found.flags]),
    }


def _bundles(followers: FollowerModel, price: np.ndarray, actions: Actions) -> Iterator[np.ndarray]:
    """What each would earn with everybody's effort and payment; what it cannot do counts as 0."""
    paid = followers.payments(price, actions)
    technology = followers.technology()
    size = actions.sum(axis=1)
    for u in range(followers.n):
        cost = actions @ technology.linear[u] + (actions**2) @ technology.quadratic[u]
        earned = paid - cost
        yield np.where(size <= technology.budget[u] * (1 + 1e-12), earned, np.minimum(earned, 0.0))
