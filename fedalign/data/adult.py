"""UCI Adult: does a person earn more than 50,000 dollars a year?

Source: Becker and Kohavi, "Adult", UCI Machine Learning Repository, 1996.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fedalign.core.contracts import Dataset
from fedalign.core.errors import DataError
from fedalign.data.files import find
from fedalign.data.splits import Splits, cut

_NUMBERS = (0, 2, 4, 10, 11, 12)
_NAMES = (1, 3, 5, 6, 7, 8, 9, 13)


@dataclass(frozen=True)
class Adult:
    """15 comma-separated fields per row, no header. Numbers are standardised with the training
    rows' mean and deviation, names become one column per value; a missing value `?` is a value.

    root: where adult.data and adult.test (or .csv.gz) lie. root_samples: server samples.
    limit: client samples, None = all.
    """

    root: str | None = None
    root_samples: int = 100
    limit: int | None = None

    def load(self) -> Splits:
        train, test = _read(
            find(self.root, "adult", ["adult.data", "adult.data.csv"]),
            find(self.root, "adult", ["adult.test", "adult.test.csv"]),
        )
        return cut(train, test, root=self.root_samples, limit=self.limit, source="UCI Adult")


@cache
def _read(train_path: Path, test_path: Path) -> tuple[Dataset, Dataset]:
    train, test = _rows(train_path), _rows(test_path)
    numbers = np.array([[float(row[i]) for i in _NUMBERS] for row in train])
    mean, deviation = numbers.mean(axis=0), numbers.std(axis=0)
    deviation[deviation == 0] = 1  # a constant column carries nothing, but no NaN either
    values = [sorted({row[i] for row in train}) for i in _NAMES]
    return _encode(train, mean, deviation, values), _encode(test, mean, deviation, values)


def _rows(path: Path) -> list[list[str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            rows = [[field.strip() for field in row] for row in csv.reader(file)]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch the file again.") from error
    rows = [row for row in rows if row and not row[0].startswith("|")]
    for number, row in enumerate(rows, start=1):
        if len(row) != 15 or not row[0].isdigit():
            raise DataError(
                f"{path}: row {number} has {len(row)} fields, expected 15: {row[:3]}..."
            )
    return rows


def _encode(
    rows: list[list[str]], mean: np.ndarray, deviation: np.ndarray, values: list[list[str]]
) -> Dataset:
    numbers = np.array([[float(row[i]) for i in _NUMBERS] for row in rows])
    columns = [(numbers - mean) / deviation]
    for i, known in zip(_NAMES, values, strict=True):
        field = np.array([row[i] for row in rows])
        columns.append((field[:, None] == np.array(known)[None, :]).astype(float))
    labels = np.array([row[14].startswith(">50K") for row in rows], dtype=np.int64)
    inputs = torch.from_numpy(np.concatenate(columns, axis=1)).to(torch.float32)
    return Dataset(inputs, torch.from_numpy(labels), classes=2)
