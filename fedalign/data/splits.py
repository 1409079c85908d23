"""Three disjoint parts of a data set: what clients hold, what the server holds, what is tested."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedalign.core.contracts import Dataset
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import generator


@dataclass(frozen=True)
class Splits:
    """clients: the pool that a partition cuts. root: the server's own. test: nobody's.

    source: what was read, for the log and for tables.
    """

    clients: Dataset
    root: Dataset
    test: Dataset
    source: str


def cut(
    train: Dataset,
    test: Dataset,
    *,
    root: int,
    limit: int | None,
    source: str,
    shuffle: bool = True,
) -> Splits:
    """Take the server's `root` samples and at most `limit` client samples out of `train`.

    The cut depends on nothing but the data, so that every seed of a study is tested on the same
    samples.
    """
    pool = len(train) - root
    wanted = pool if limit is None else limit
    if root < 1 or wanted < 1 or wanted > pool:
        raise ConfigError(
            f"{source} has {len(train)} training samples: root={root} and limit={limit} do not fit; "
            f"take root >= 1 and limit <= {max(pool, 0)}."
        )
    order = fixed_order(len(train)) if shuffle else torch.arange(len(train))
    return Splits(train.take(order[root : root + wanted]), train.take(order[:root]), test, source)


def fixed_order(count: int) -> torch.Tensor:
    """One permutation of 0 .. count-1, the same on every machine."""
    return torch.from_numpy(generator(b"fedalign/fixed-split").permutation(count))
