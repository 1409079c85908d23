"""Digits: 1797 grey 8 x 8 images of ten digits that ship inside scikit-learn.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from fedalign.core.contracts import Dataset
from fedalign.core.errors import ConfigError
from fedalign.data.splits import Splits, cut, fixed_order


@dataclass(frozen=True)
class Digits:
    """The embedded default: 360 test, 100 root, 1337 for clients; pixels divided by 16.

    test: test samples (1 .. 1697). root: server samples (>= 1). limit: client samples, None = all.
    Nothing is read from outside and nothing is downloaded.
    """

    test: int = 360
    root_samples: int = 100
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.test <= 1697:
            raise ConfigError(f"data.test must be 1 to 1697 of the 1797 digits, got {self.test}.")

    def load(self) -> Splits:
        everything = _read()
        order = fixed_order(len(everything))
        test, train = everything.take(order[: self.test]), everything.take(order[self.test :])
        return cut(
            train,
            test,
            root=self.root_samples,
            limit=self.limit,
            source="digits (scikit-learn)",
            shuffle=False,
        )


@cache
def _read() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(images / 16.0).to(torch.float32).view(-1, 1, 8, 8)
    return Dataset(inputs, torch.from_numpy(labels).to(torch.int64), classes=10)
