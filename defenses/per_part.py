"""Per part: apply a rule to each tensor, to the two adapter factors, or to the head on its own.

Paper: none; our derivation (a rule per block of parameters; LoRA factors after Hu et al., "LoRA",
ICLR 2022, have gradients of different size, so that one distance for both sees one of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.core.vectors import Layout, Part
from fedalign.core.wrapping import Wrapper

Mode = Literal["tensor", "adapter_factors", "head"]


@dataclass(frozen=True)
class PerPart(Wrapper):
    """The rule's vectors for every group of tensors, side by side.

    rule: any rule that does without `evaluate` (a group is no model). mode: "tensor", every tensor
    is a group; "adapter_factors", the groups are lora_A, lora_B and the rest; "head", the tensors
    whose name matches one of `patterns` and the rest. patterns: shell patterns, for "head" only.
    accepted: in at least half of the groups. scores: the share of groups that accepted the client.
    Memory: {group: memory of the rule there}. Needs `context.layout`.
    """

    rule: Defense
    mode: Mode = "tensor"
    patterns: Sequence[str] = ("*head*",)

    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(self.patterns))
        if self.mode not in get_args(Mode):
            raise ConfigError(
                f"PerPart's mode is one of {', '.join(get_args(Mode))}; got '{self.mode}'."
            )
        if self.mode == "head" and not self.patterns:
            raise ConfigError(
                "PerPart in mode 'head' needs at least one pattern, such as '*head*'."
            )
        if "evaluate" in self.rule.needs:
            raise ConfigError(
                f"PerPart hands parts of a model to its rule, but {type(self.rule).__name__} "
                "evaluates whole models: wrap a rule that does not, such as median or krum."
            )

    def __call__(self, updates: Tensor, context: Context = Context()) -> Aggregate:
        if context.layout is None:
            raise ConfigError(
                "PerPart cuts the rows into tensors, got a context without a layout: pass "
                "Context(layout=...)."
            )
        vector, memory, decisions = torch.empty_like(updates[0]), {}, {}
        for name, parts in self._groups(context.layout).items():
            columns = torch.cat([torch.arange(p.span.start, p.span.stop) for p in parts])
            columns = columns.to(updates.device)
            piece = self.rule(
                updates.index_select(1, columns), context.inner(name).columns(columns)
            )
            vector[columns], memory[name], decisions[name] = piece.vector, piece.memory, piece
        share = torch.stack([d.accepted for d in decisions.values()]).double().mean(dim=0)
        return Aggregate(
            vector=vector,
            accepted=share >= 0.5,
            scores=share,
            memory=memory,
            notes={"accepted_per_part": {k: int(d.accepted.sum()) for k, d in decisions.items()}},
            skipped=all(d.skipped for d in decisions.values()),
        )

    def _groups(self, layout: Layout) -> dict[str, list[Part]]:
        """Name -> tensors; empty tensors and empty groups are left out."""
        groups: dict[str, list[Part]] = {}
        for part in layout.parts:
            if part.size:
                groups.setdefault(self._group(part.name), []).append(part)
        if self.mode == "head" and "head" not in groups:
            raise UnknownNameError(
                "tensor", " or ".join(self.patterns), [p.name for p in layout.parts]
            )
        return groups

    def _group(self, name: str) -> str:
        if self.mode == "tensor":
            return name
        if self.mode == "head":
            return "head" if any(fnmatchcase(name, p) for p in self.patterns) else "rest"
        return next((factor for factor in ("lora_A", "lora_B") if factor in name), "rest")
