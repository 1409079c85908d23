"""Whether a rule names the rows that it rejects, found out by giving it some that it must."""

from __future__ import annotations

import numpy as np
import torch

from fedalign.core.contracts import Context, Defense
from fedalign.core.errors import ConfigError

_CROWD = 15


def check_veto(owner: str, rule: Defense) -> None:
    """Raise ConfigError unless `rule` rejects gross outliers and keeps more than one row.

    15 or more random rows are followed by one or two that are long and turned away from the crowd. A rule
    that accepts them protects by other means than rejecting (medians of coordinates, clipping), which a wrapper
    that only drops what is rejected would lose; one that keeps a single row leaves nobody.
    """
    name, liars = type(rule).__name__, _liars(rule)
    crowd = max(_CROWD, rule.minimum(liars) - liars)
    decided = rule(*_trial(crowd, liars))
    taken = int(decided.accepted.sum())
    if taken == 1:
        raise ConfigError(
            f"{owner} around {name} makes no sense: {name} takes one row, so that everybody else "
            f"would count as missing. Wrap a rule that keeps many, such as multi_krum or "
            "norm_filter."
        )
    if rule.family == "coordinate" or bool(decided.accepted[crowd:].any()):
        raise ConfigError(
            f"{owner} leaves out the rows that its rule rejects, but {name} rejects none (it "
            "protects by coordinates, by clipping or not at all): wrap one that does, such as "
            "multi_krum, norm_filter, fltrust or flame."
        )


def _liars(rule: Defense) -> int:
    """As many as the rule is built for, 2 where the context says it; never more than 2."""
    own = getattr(rule, "byzantine_count", None)
    return 2 if own is None else min(max(own, 1), 2)


def _trial(crowd: int, liars: int) -> tuple[torch.Tensor, Context]:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(1.0 + 0.1 * rng.standard_normal((crowd + liars, 64)))
    rows[crowd] = -50.0
    rows[crowd + 1 :, :32], rows[crowd + 1 :, 32:] = -200.0, -20.0
    n = len(rows)
    context = Context(
        clients=torch.arange(n),
        weights=torch.ones(n, dtype=torch.float64),
        byzantine_count=liars,
        model=torch.zeros(64, dtype=torch.float64),
        previous=torch.zeros(64, dtype=torch.float64),
        root_update=torch.ones(64, dtype=torch.float64),
        evaluate=_scored,
        rng=rng,
    )
    return rows, context


def _scored(vector: torch.Tensor) -> dict[str, float]:
    apart = float((vector.double() - 1).square().mean())
    return {"loss": apart, "accuracy": 1 / (1 + apart)}
