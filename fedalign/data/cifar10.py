"""CIFAR-10 from one npz with x_train, y_train, x_test, y_test.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fedalign.core.contracts import Dataset
from fedalign.core.errors import DataError
from fedalign.data.files import find
from fedalign.data.splits import Splits, cut

_MEAN = (0.4914, 0.4822, 0.4465)
_DEVIATION = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Cifar10:
    """32 x 32 colour images, normalised per channel with the usual constants.

    root: where to look for `file`. root_samples: server samples. limit: client samples,
    None = all. The rows of such files are often sorted by class; the cut shuffles them.
    """

    root: str | None = None
    file: str = "cifar10_subset.npz"
    root_samples: int = 100
    limit: int | None = None

    def load(self) -> Splits:
        path = find(self.root, "cifar10", [self.file, "cifar10.npz"])
        train, test = _read(path)
        return cut(
            train, test, root=self.root_samples, limit=self.limit, source=f"cifar10 ({path.name})"
        )


@cache
def _read(path: Path) -> tuple[Dataset, Dataset]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no CIFAR-10 npz with x_train, y_train, x_test, y_test ({error})."
        ) from error
    return _dataset(path, arrays, "train"), _dataset(path, arrays, "test")


def _dataset(path: Path, arrays: dict[str, np.ndarray], split: str) -> Dataset:
    images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].reshape(-1)
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or len(images) != len(labels):
        raise DataError(
            f"{path}: x_{split} must be uint8 (N, 32, 32, 3) with as many labels, "
            f"got {images.dtype} {images.shape} and {len(labels)} labels."
        )
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    inputs = (inputs - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_DEVIATION).view(3, 1, 1)
    return Dataset(inputs.contiguous(), torch.from_numpy(labels.astype(np.int64)), classes=10)
