"""Plagiarism: send what another client has sent.

Paper: none; our derivation (the copy that commit-then-reveal must make impossible).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attacks import _checks
from attacks._noise import normal
from attacks._rows import clones, norm
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Plagiarism:
    """All attackers copy one benign row.

    victim: which of the benign rows, >= 0; null draws one each round.
    noise: norm of noise added to each copy, as a share of the row's norm, >= 0 (1e-3 hides an
    exact duplicate).
    """

    victim: int | None = None
    noise: float = 0.0
    knowledge: ClassVar[Knowledge] = Knowledge.UPDATES

    def __post_init__(self):
        _checks.in_range(self, "noise", self.noise, 0)
        if self.victim is not None:
            _checks.in_range(self, "victim", self.victim, 0)

    def __call__(self, view: View) -> Crafted:
        rows = _checks.benign(self, view)
        if self.victim is not None and self.victim >= len(rows):
            raise ConfigError(
                f"Plagiarism.victim is {self.victim}, but {len(rows)} benign rows arrived: "
                f"use a number from 0 to {len(rows) - 1}, or null."
            )
        chosen = int(view.rng.integers(len(rows))) if self.victim is None else self.victim
        copies = clones(rows[chosen], len(view.own))
        if self.noise > 0:
            for copy, zeta in zip(copies, normal(view.rng, copies), strict=True):
                length = norm(zeta)
                copy.add_(zeta, alpha=self.noise * norm(copy) / length if length > 0 else 0.0)
        return Crafted(copies, notes={"copied": chosen})
