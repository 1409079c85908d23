"""The market of worked oracles: three followers."""

import numpy as np

from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.models.train_mine_contest import TrainMineContest

QUALITY, EFFICIENCY = (1.0, 0.8, 0.5), (0.5, 1.0, 0.8)
TRAINING_COST, MINING_COST = (0.5, 0.4, 0.3), (0.4, 0.6, 0.5)
GAINS, SCALES = (20.0, 10.0), (1.0, 1.0)


def priced(budget=np.inf, **changed):
    """M1 of oracle I1."""
    fields = {
        "quality": QUALITY, "efficiency": EFFICIENCY, "training_cost": TRAINING_COST,
        "mining_cost": MINING_COST,
    } | changed  # fmt: skip
    return PricedEffort(**{"budget": budget, **fields})


def contest(budget=np.inf, **changed):
    """M2 of oracle I2."""
    fields = {
        "quality": QUALITY, "training_cost": TRAINING_COST, "mining_cost": MINING_COST,
    } | changed  # fmt: skip
    return TrainMineContest(**{"budget": budget, **fields})


def owner(followers, gains=GAINS, scales=SCALES, bounds=None):
    return ModelOwner(followers, gains, scales, bounds)


def random_contest(rng, n):
    """Costs and budgets over three decades."""
    q, a, b, budget = (10 ** rng.uniform(-1.5, 1.5, n) for _ in range(4))
    return TrainMineContest(np.minimum(q, 1.0), a, b, budget)
