"""Fitted IPM: a control, inner product manipulation with the norm of an honest model.

Paper: none; our control, after Xie et al., "Fall of Empires", UAI 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch

from attacks._rows import dot, mean
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class FittedIpm:
    """w' = w_g - c * mean of the own updates, c > 0 such that |w'| = |w_own| in view.space.

    Each attacker fits its own norm. Where no c reaches it, the shortest w' is scaled to it.
    """

    knowledge: ClassVar[Knowledge] = Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        step = mean(view.own)
        start = view.in_space(torch.zeros_like(view.own[:1]))[0]  # w_g as the rule sees it
        a, b, c = dot(step, step), dot(start, step), dot(start, start)
        rows = []
        for own in view.in_space(view.own):
            target = dot(own, own)
            rest = b * b - a * (c - target)
            if a > 0 and rest >= 0:
                rows.append(start - (b + sqrt(rest)) / a * step)
                continue
            row = start - b / a * step if a > 0 else start
            length = dot(row, row)
            rows.append(row * sqrt(target / length) if length > 0 else row)
        return Crafted(view.as_updates(torch.stack(rows)))
