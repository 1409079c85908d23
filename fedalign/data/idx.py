"""MNIST and Fashion-MNIST from the idx files everybody has.

Sources: LeCun, Cortes, Burges, "The MNIST Database"; Xiao et al., "Fashion-MNIST", 2017.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch

from fedalign.core.contracts import Dataset
from fedalign.core.errors import DataError
from fedalign.data.files import find
from fedalign.data.splits import Splits, cut


@dataclass(frozen=True)
class Idx:
    """28 x 28 grey images from idx files below `root`, gzipped or not; pixels in [0, 1].

    name: the folder that may hold them, mnist or fashion_mnist. root: where to look.
    root_samples: server samples. limit: client samples, None = all. test: where the folder has
    no test file, that many of the last training rows are the test set.
    """

    name: str = "mnist"
    root: str | None = None
    root_samples: int = 100
    limit: int | None = None
    test: int = 10_000

    def load(self) -> Splits:
        images = find(
            self.root, self.name, ["train-images-idx3-ubyte", "train-prefix-images-idx3-ubyte"]
        )
        train = _pair(images, images.with_name(images.name.replace("images-idx3", "labels-idx1")))
        held_out = find(
            self.root,
            self.name,
            ["t10k-images-idx3-ubyte", "t10k-prefix-images-idx3-ubyte"],
            required=False,
        )
        if held_out is not None:
            labels = held_out.with_name(held_out.name.replace("images-idx3", "labels-idx1"))
            test, source = _pair(held_out, labels), f"{images.name}, {held_out.name}"
        else:
            if len(train) <= self.test + self.root_samples:
                raise DataError(
                    f"{images} has {len(train)} images and there is no test file beside it: "
                    f"data.test={self.test} leaves too few to train on; lower data.test."
                )
            border = len(train) - self.test
            test, train = (
                train.take(torch.arange(border, len(train))),
                train.take(torch.arange(border)),
            )
            source = f"{images.name}, its last {self.test} rows as test set"
        return cut(
            train, test, root=self.root_samples, limit=self.limit, source=f"{self.name} ({source})"
        )


@cache
def _pair(images: Path, labels: Path) -> Dataset:
    pixels, classes = read_idx(images, ndim=3), read_idx(labels, ndim=1)
    if len(pixels) != len(classes):
        raise DataError(f"{images} holds {len(pixels)} images but {labels} {len(classes)} labels.")
    inputs = torch.from_numpy(pixels.copy()).to(torch.float32).div_(255).unsqueeze_(1)
    return Dataset(inputs, torch.from_numpy(classes.astype(np.int64)), classes=10)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """One idx file of unsigned bytes: magic 0 0 8 ndim, then sizes, then the bytes."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; it belongs beside its images file.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked ({error}): fetch the file again.") from error
    if len(raw) < 4 + 4 * ndim or raw[:3] != b"\x00\x00\x08" or raw[3] != ndim:
        raise DataError(
            f"{path} is no idx file of {ndim}-dimensional bytes: it begins with {raw[:4].hex()}, "
            f"expected 000008{ndim:02x}; fetch the file again."
        )
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", ndim, 4))
    if len(raw) - 4 - 4 * ndim != prod(shape):
        raise DataError(
            f"{path} is damaged: its header promises {prod(shape)} bytes for {shape}, "
            f"{len(raw) - 4 - 4 * ndim} are there; fetch the file again."
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)
