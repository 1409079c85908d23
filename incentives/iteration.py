"""Iteration: best responses in turn until nobody moves, for followers without a joint formula.

Paper: none; Gauss-Seidel best-response iteration. It need not converge: the certificate decides.
"""

from __future__ import annotations

import numpy as np

from incentives.players import Actions, FollowerModel


def iterate(
    followers: FollowerModel,
    price: np.ndarray,
    start: Actions,
    tol: float = 1e-10,
    sweeps: int = 200,
) -> Actions:
    """One follower after the other, in index order, answers what the others do now.

    start: (n, k). tol: > 0, the largest change of a sweep relative to the largest action at which
    it stops. sweeps: >= 1, after which it stops anyway.
    """
    actions = np.array(start, dtype=np.float64)
    for _ in range(sweeps):
        before = actions.copy()
        for u in range(followers.n):
            actions[u] = followers.best_response(price, actions, np.array([u]))[0]
        if np.abs(actions - before).max() <= tol * max(np.abs(actions).max(), 1e-300):
            break
    return actions
