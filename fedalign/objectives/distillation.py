"""Distillation: match the teacher's next-token distribution.

Papers: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Agarwal et al.,
"On-Policy Distillation of Language Models", ICLR 2024 (divergences); Calderon et al., "A Systematic
Study of Knowledge Distillation for Natural Language Generation with Pseudo-Target Training", ACL
2023 (sequence level).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedalign.core.errors import ConfigError
from fedalign.objectives.terms import Loss, positive


@dataclass(frozen=True)
class Distillation:
    """divergence: forward, KL(teacher || student); backward; jsd, half of each to their mean.

    top: only the teacher's K likeliest tokens, both renormalised over them; null: all. temperature:
    T > 0; the loss is multiplied by T^2, so that gradients keep their size. level: token, on the
    data's answers; sequence, cross-entropy on the teacher's own likeliest answers instead. sft:
    weight (>= 0) of cross-entropy on the data's answers, beside 1 of the distillation.
    teacher_steps: >= 0; the teacher is the base model after so many steps of policy gradients
    towards the gold reward on public prompts (0: the base itself); see fedalign/training/teacher.py.
    """

    divergence: Literal["forward", "backward", "jsd"] = "forward"
    top: int | None = None
    temperature: float = 1.0
    level: Literal["token", "sequence"] = "token"
    sft: float = 0.0
    teacher_steps: int = 40
    reference: ClassVar[str] = "none"
    mismatched: ClassVar[bool] = False
    neutral: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        positive(self, temperature=self.temperature)
        if self.divergence not in ("forward", "backward", "jsd"):
            raise ConfigError(
                "Distillation.divergence must be forward, backward or jsd, got "
                f"{self.divergence!r}."
            )
        if self.top is not None and self.top < 1:
            raise ConfigError(f"Distillation.top must be 1 or more, got {self.top}.")
        if self.level not in ("token", "sequence"):
            raise ConfigError(f"Distillation.level must be token or sequence, got {self.level!r}.")
        if self.sft < 0 or self.teacher_steps < 0:
            raise ConfigError(
                "Distillation.sft and teacher_steps must be 0 or more, got "
                f"{self.sft} and {self.teacher_steps}."
            )

    def __call__(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Loss:
        """student, teacher: (..., V) logits. mask: (...), which places count. Items: (...)."""
        if self.top is not None:
            kept = teacher.topk(min(self.top, teacher.shape[-1]), dim=-1).indices
            student, teacher = student.gather(-1, kept), teacher.gather(-1, kept)
        s = torch.log_softmax(student.float() / self.temperature, dim=-1)
        t = torch.log_softmax(teacher.float() / self.temperature, dim=-1)
        if self.divergence == "forward":
            items = _kl(t, s)
        elif self.divergence == "backward":
            items = _kl(s, t)
        else:
            middle = torch.logaddexp(s, t) - log(2)
            items = 0.5 * (_kl(t, middle) + _kl(s, middle))
        items = items * self.temperature**2
        if mask is None:
            return Loss(items.mean(), items)
        return Loss((items * mask).sum() / mask.sum().clamp(min=1), items)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(dim=-1)
