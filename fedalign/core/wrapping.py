"""A rule around another: what it needs, judges and accepts is what the inner one does."""

from __future__ import annotations

from fedalign.core.contracts import Defense
from fedalign.core.threat import Family, Space


class Wrapper(Defense):
    """The facts of `rule`, a field of every subclass, which states its own where they differ."""

    rule: Defense

    @property
    def needs(self) -> frozenset[str]:
        return self.rule.needs

    @property
    def space(self) -> Space:
        return self.rule.space

    @property
    def family(self) -> Family:
        return self.rule.family

    @property
    def linear(self) -> bool:
        return self.rule.linear

    def minimum(self, byzantine_count: int) -> int:
        return self.rule.minimum(byzantine_count)
