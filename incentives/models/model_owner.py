"""ModelOwner: buys training and mining with concave satisfaction and linear payment.

Paper: following "Incentive mechanism of blockchain-based federated learning (two-stage
Stackelberg game)", arXiv 2202.10938; the satisfaction function is our derivation (the paper's
own form is not reproduced).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedalign.core.errors import ConfigError
from incentives.players import Actions, FollowerModel


@dataclass(frozen=True, eq=False)
class ModelOwner:
    """V = sum_c gain_c ln(1 + C_c / scale_c) - payments, C_c = what all followers contribute.

    followers: the market that answers. gains: g, v ..., one finite number per contribution; not
    above 0 means that nothing is worth paying. scales: X0, Y0 ..., > 0, in contribution units.
    bounds: ((low, high), ...) per price, 0 <= low <= high; default 0 to the model's ceiling.
    """

    followers: FollowerModel
    gains: Sequence[float]
    scales: Sequence[float]
    bounds: Sequence[tuple[float, float]] | None = None

    def __post_init__(self):
        gains, scales = (np.array(v, dtype=np.float64) for v in (self.gains, self.scales))
        if gains.shape != scales.shape or gains.ndim != 1:
            raise ConfigError(
                f"ModelOwner needs one gain and one scale per contribution, got {gains.shape} "
                f"gains and {scales.shape} scales."
            )
        if not np.isfinite(gains).all() or not (np.isfinite(scales) & (scales > 0)).all():
            raise ConfigError(
                f"ModelOwner needs finite gains and finite scales above 0, got gains "
                f"{gains.tolist()} and scales {scales.tolist()}."
            )
        ceiling = self.followers.ceiling(np.maximum(gains, 0.0), scales)
        default = np.stack([np.zeros_like(ceiling), ceiling], axis=1)
        bounds = default if self.bounds is None else np.array(self.bounds, dtype=np.float64)
        if bounds.shape != default.shape or not np.isfinite(bounds).all():
            raise ConfigError(
                f"bounds: one finite (low, high) per price, {len(default)} in all, got "
                f"{bounds.tolist()}."
            )
        if (bounds[:, 0] < 0).any() or (bounds[:, 1] < bounds[:, 0]).any():
            raise ConfigError(f"bounds need 0 <= low <= high, got {bounds.tolist()}.")
        for name, value in {"gains": gains, "scales": scales, "bounds": bounds}.items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def utility(self, price: np.ndarray, actions: Actions) -> float:
        total = self.followers.contributions(actions).sum(axis=0)  # (c,)
        satisfaction = self.gains @ np.log1p(total / self.scales)
        return float(satisfaction - self.payment(price, actions))

    def payment(self, price: np.ndarray, actions: Actions) -> float:
        return float(self.followers.payments(price, actions).sum())

    def closed_form(self) -> np.ndarray | None:
        price = self.followers.closed_form(self.gains, self.scales)
        inside = (
            price is not None
            and ((self.bounds[:, 0] <= price) & (price <= self.bounds[:, 1])).all()
        )
        return price if inside else None
