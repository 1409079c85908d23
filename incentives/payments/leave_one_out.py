"""LeaveOneOut: a client's contribution is what is lost without it.

Paper: Cook, "Detection of Influential Observation in Linear Regression", Technometrics 1977 (the
principle).
"""

from __future__ import annotations

import numpy as np

from incentives.payments.coalitions import Coalitions, Worth


def leave_one_out(worth: Worth, n: int) -> np.ndarray:
    """v(N) - v(N without u), (n,) float64, negative where a client does harm; n + 1 values."""
    value, everybody = Coalitions(worth), range(n)
    return np.array([value(everybody) - value(set(everybody) - {u}) for u in everybody])
