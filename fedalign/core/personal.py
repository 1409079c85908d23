"""What personal algorithms ask of a workload beside training: models judged by each client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from fedalign.core.contracts import ClientTask, Memory, Updates, Workload

LOCAL = ".local."  # in the name of a trainable that is made to stay at its client
PROBED = 128  # pairs on which a client compares models


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
class Voting(Protocol):
    """A workload whose models can decide by majority."""

    def voted(self, vectors: Sequence[Tensor]) -> Mapping[str, float]:
        """Metrics, named as of one model, of what most of these models (d,) say."""


@runtime_checkable
class Grouping(Protocol):
    """An algorithm whose server asks all clients now and then which model fits them, and deals
    them out."""

    def regroups(self, round: int) -> bool:
        """Whether clients are asked after this round."""

    def client_probe(
        self, workload: Many, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> Updates:
        """What each model is worth to each client: rows (n, 0), metrics (n,)."""

    def grouped(self, probes: Updates, memory: Memory) -> Memory:
        """The algorithm's memory, with its clients dealt out anew."""


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
