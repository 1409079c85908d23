"""Leader: the price of a round's game, solved once for the same clients, with its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedalign.core.contracts import Memory
from fedalign.core.market import Market
from incentives.game import solve
from incentives.models.model_owner import ModelOwner


@dataclass(frozen=True)
class Announced:
    """price: (p,). certificate: plain data. memory: hands both to the next round."""

    price: np.ndarray
    certificate: Mapping[str, Any]
    memory: Memory


def announced(market: Market, leader: ModelOwner) -> Announced:
    """The leader's best price. Types do not change between rounds, so the answer for the clients
    of the round before is taken over from memory."""
    before = market.memory
    if "clients" in before and torch.equal(before["clients"], market.clients):
        return Announced(np.array(before["price"]), before["certificate"], before)
    if not leader.bounds[:, 1].any():
        nothing = {"status": "NO_BUDGET", "reason": "No price above 0 is allowed."}
        return Announced(leader.bounds[:, 1].copy(), nothing, {})
    found = solve(leader, leader.followers)
    proof = found.certificate
    certificate = {
        "status": found.status,
        "method": found.method,
        "reason": found.reason,
        "at_bound": _at_bound(found.price, leader.bounds),
        "leader_utility": found.leader_utility,
        "eps_leader": proof.eps_leader,
        "eps_follower": proof.eps_follower,
        "feasibility": proof.feasibility,
    }
    price = found.price.tolist()
    memory = {"clients": market.clients, "price": price, "certificate": certificate}
    return Announced(np.array(price), certificate, memory)


def _at_bound(price: np.ndarray, bounds: np.ndarray) -> bool:
    """Whether a price that could be chosen is the highest allowed."""
    low, high = bounds.T
    return bool(((low < high) & (price >= high * (1 - 1e-9))).any())
