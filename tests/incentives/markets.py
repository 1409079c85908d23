"""The markets of worked oracles, and random ones."""

import numpy as np

from incentives.models.model_owner import ModelOwner
from incentives.models.priced_effort import PricedEffort
from incentives.models.train_mine_contest import TrainMineContest

QUALITY, EFFICIENCY = (1.0, 0.8, 0.5), (0.5, 1.0, 0.8)
TRAINING_COST, MINING_COST = (0.5, 0.4, 0.3), (0.4, 0.6, 0.5)
GAINS, SCALES = (20.0, 10.0), (1.0, 1.0)


def priced(budget=np.inf, **changed) -> PricedEffort:
    """Oracle I1."""
    given = {
        "quality": QUALITY, "efficiency": EFFICIENCY, "training_cost": TRAINING_COST,
        "mining_cost": MINING_COST, "budget": budget,
    }  # fmt: skip
    return PricedEffort(**given | changed)


def contest(budget=np.inf, **changed) -> TrainMineContest:
    """Oracle I2."""
    given = {
        "quality": QUALITY, "training_cost": TRAINING_COST, "mining_cost": MINING_COST,
        "budget": budget,
    }  # fmt: skip
    return TrainMineContest(**given | changed)


def owner(followers, gains=GAINS, scales=SCALES, bounds=None) -> ModelOwner:
    """Section 2's leader."""
    return ModelOwner(followers, gains, scales, bounds)


def random_contest(rng: np.random.Generator, n: int) -> TrainMineContest:
    """n players, costs and budgets over three decades."""
    return TrainMineContest(
        quality=rng.uniform(0.1, 1.0, n),
        training_cost=10 ** rng.uniform(-1.5, 1.5, n),
        mining_cost=10 ** rng.uniform(-1.5, 1.5, n),
        budget=10 ** rng.uniform(-1.5, 1.5, n),
    )
