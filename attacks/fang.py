"""Fang: the local model poisoning form that fits the rule's family.

Paper: Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning",
USENIX Security 2020, Section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from attacks import _checks
from attacks.fang_krum import FangKrum
from attacks.fang_trim import FangTrim
from fedalign.core.threat import Crafted, Knowledge, View


@dataclass(frozen=True)
class Fang:
    """The Krum form or the trimmed-mean form.

    form: krum, trim, or auto: krum against distance rules, trim against all others.
    stop: of the Krum form, see FangKrum. b: of the trim form, see FangTrim.
    """

    form: Literal["auto", "krum", "trim"] = "auto"
    stop: float = 1e-5
    b: float = 2.0
    knowledge: ClassVar[Knowledge] = Knowledge.FULL

    def __post_init__(self):
        _checks.one_of(self, "form", self.form, ("auto", "krum", "trim"))
        self._krum(), self._trim()  # their own range checks

    def __call__(self, view: View) -> Crafted:
        fits = "krum" if view.family == "distance" else "trim"
        form = fits if self.form == "auto" else self.form
        return self._krum()(view) if form == "krum" else self._trim()(view)

    def _krum(self) -> FangKrum:
        return FangKrum(stop=self.stop)

    def _trim(self) -> FangTrim:
        return FangTrim(b=self.b)
