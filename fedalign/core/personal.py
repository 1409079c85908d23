"""What personal algorithms ask of a workload beside training: models judged by each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from fedalign.core.contracts import ClientTask, Memory, Updates, Workload

LOCAL = ".local."  # in the name of a trainable that is made to stay at its client


@runtime_checkable
class Judged(Protocol):
    """judges: whether clients are asked, after every round, what the new model is worth to them."""

    judges: bool


@runtime_checkable
class Personal(Judged, Protocol):
    """A workload of one model that can be compared with others by a client's own data."""

    def losses(self, tasks: Sequence[ClientTask]) -> Tensor:
        """(n,), the loss of each task's vector on its client's own data."""

    def judge(self, tasks: Sequence[ClientTask], memories: Sequence[Memory]) -> Updates:
        """Rows (n, 0) and metrics (n,) of each task's vector by its client's own values."""


@runtime_checkable
class Many(Protocol):
    """A workload with several models of one kind in a vector, `cluster/<k>/` before their names."""

    single: Workload
    count: int

    def model(self, vector: Tensor, cluster: int) -> Tensor:
        """(count d,) -> (d,)."""

    def spread(self, rows: Tensor, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(n, d) rows of one model each -> (n, count d), 0 elsewhere, and the mask (n, tensors);
        chosen -1: a row for every model."""
