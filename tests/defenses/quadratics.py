"""Two-level federations of quadratics, where every gradient is a line of arithmetic.

5 edges of 5 devices; device (i, j) minimises sum_k a_k (w_k - o_k)^2 / 2, curvature a ~ U(.5, 1.5),
optimum o = a normal of its own plus one of its edge. All devices train at once, as tensors.
"""

from __future__ import annotations

import numpy as np
import torch

from fedalign.core.contracts import Context

EDGES, DEVICES, SIZE, STEPS, RATE = 5, 5, 10, 5, 0.05


class Quadratics:
    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.curvature = rng.uniform(0.5, 1.5, (EDGES, DEVICES, SIZE))
        self.optimum = rng.standard_normal((EDGES, DEVICES, SIZE)) + rng.standard_normal(
            (EDGES, 1, SIZE)
        )
        mean = self.curvature.mean((0, 1))
        self.best = (self.curvature * self.optimum).mean((0, 1)) / mean
        self.rng = rng

    def loss(self, model):
        """How far the mean objective lies above its minimum."""
        above = self.curvature * ((model - self.optimum) ** 2 - (self.best - self.optimum) ** 2)
        return float(0.5 * above.sum(2).mean())

    def train(self, edge, model):  # (d,) -> updates (devices, d)
        w = np.broadcast_to(model, (DEVICES, SIZE)).copy()
        for _ in range(STEPS):
            w -= RATE * self.curvature[edge] * (w - self.optimum[edge])
        return w - model


def play(rule, kind, seed, rounds=120, edge_rounds=2, boot=2):
    """Sub-optimality after every global round. kind: none, temporary (another device of each edge
    and another edge server miss every round) or permanent (always the last ones), after `boot`."""
    world, model, memory, found = Quadratics(seed), np.zeros(SIZE), {}, []
    for t in range(1, rounds + 1):
        edge_models = np.zeros((EDGES, SIZE))
        for i in range(EDGES):
            w = model.copy()
            for k in range(1, edge_rounds + 1):
                away = _away(world.rng, kind, t > boot, DEVICES)
                r = (t - 1) * edge_rounds + k
                w = w + _step(rule, r, world.train(i, w), w, away, memory, f"edge/{i}")
            edge_models[i] = w
        away = _away(world.rng, kind, t > boot, EDGES)
        model = model + _step(rule, t, edge_models - model, model, away, memory, "global")
        found.append(world.loss(model))
        if not np.isfinite(found[-1]) or found[-1] > 1e6:
            break
    return found


def _away(rng, kind, booted, count):
    drawn = int(rng.integers(count))
    if kind == "none" or not booted:
        return None
    return drawn if kind == "temporary" else count - 1


def _step(rule, round, rows, start, away, memory, owner):
    here = [u for u in range(len(rows)) if u != away]
    decided = rule(
        torch.from_numpy(rows[here]),
        Context(
            round=round,
            clients=torch.tensor(here),
            weights=torch.ones(len(here), dtype=torch.float64),
            absent={} if away is None else {away: 1.0},
            model=torch.from_numpy(start),
            memory=memory.get(owner, {}),
        ),
    )
    memory[owner] = decided.memory
    return decided.vector.numpy()
