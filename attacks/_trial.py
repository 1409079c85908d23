"""What the rule itself says about a trial: the attacker plays the server with the rows it has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.core.threat import View


def accepted(view: View, benign: Tensor, rows: Tensor) -> int:
    """How many of the crafted rows (m, d) the rule accepts among these benign ones (b, d).

    Both are updates. Ids and weights fall away: they belong to the round's own order.
    """
    if view.rule is None or view.context is None:
        raise ConfigError("This attack asks the rule: grant Knowledge.RULE, or choose its proxy.")
    context = replace(view.context, clients=None, weights=None, mask=None)
    verdict = view.rule(torch.cat([benign, rows]), context)
    return 0 if verdict.skipped else int(verdict.accepted[len(benign) :].sum())
