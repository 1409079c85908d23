"""Mimic: everybody repeats one honest client, so that its data drowns the others'.

Paper: Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing",
ICLR 2022, Section 3 and Appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks import _checks
from attacks._rows import clones, mean
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Mimic:
    """All attackers send the benign row that lies farthest out along the direction z in which
    past benign rows varied most; in the first round the first benign row.

    z is one power iteration per round on the running covariance (Oja's rule); z, the running
    mean and the round count live in the attack's memory.
    """

    knowledge: ClassVar[Knowledge] = Knowledge.UPDATES

    def __call__(self, view: View) -> Crafted:
        rows = _checks.benign(self, view)
        count = int(view.memory.get("count", 0))
        chosen = int((rows @ view.memory["direction"]).argmax()) if count else 0
        memory = _learn(rows, view.memory, count)
        return Crafted(clones(rows[chosen], len(view.own)), memory, notes={"copied": chosen})


def _learn(rows: Tensor, memory, count: int) -> dict:
    """Running mean and principal direction after this round's benign rows (b, d)."""
    keep = count / (count + 1)
    centre = mean(rows)
    if count:
        centre = keep * memory["mean"] + (1 - keep) * centre
    around = rows - centre
    if count:
        old = memory["direction"]
    else:  # the paper starts at random; we start at the row farthest from the mean
        old = around[int(around.double().square().sum(dim=1).argmax())]
    direction = keep * old * float(count > 0) + (1 - keep) * ((around @ old) @ around)
    length = torch.linalg.vector_norm(direction.double())
    if length > 0:
        direction = direction / length.to(direction)
    return {"count": count + 1, "mean": centre, "direction": direction}
