"""Data files: read as their formats say, refused with a sentence where they are damaged."""

import gzip
import struct

import numpy as np
import pytest
import torch

from fedalign.core.errors import ConfigError, DataError
from fedalign.data.adult import Adult
from fedalign.data.cifar10 import Cifar10
from fedalign.data.digits import Digits
from fedalign.data.idx import Idx


def _idx(path, array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def mnist(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    _idx(tmp_path / "vision/mnist/train-images-idx3-ubyte.gz", images)
    _idx(tmp_path / "vision/mnist/train-labels-idx1-ubyte.gz", np.arange(40, dtype=np.uint8) % 10)
    return tmp_path


def test_digits_are_cut_into_three_disjoint_parts():
    splits = Digits().load()
    assert [len(s) for s in (splits.clients, splits.root, splits.test)] == [1337, 100, 360]
    rows = torch.cat([s.inputs.flatten(1) for s in (splits.clients, splits.root, splits.test)])
    assert rows.min() == 0 and rows.max() == 1
    assert torch.equal(Digits().load().test.inputs, splits.test.inputs)


def test_idx_without_a_test_file_tests_on_its_last_rows(mnist):
    splits = Idx(root=str(mnist), root_samples=5, test=10).load()
    assert (len(splits.clients), len(splits.root), len(splits.test)) == (25, 5, 10)
    assert splits.test.labels.tolist() == list(range(10))
    assert splits.clients.inputs.shape == (25, 1, 28, 28) and splits.clients.inputs.max() <= 1
    assert "last 10 rows" in splits.source


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw[:-20], "cannot be unpacked"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-3]), "header promises 31360 bytes"),
        (lambda raw: gzip.compress(b"\x00\x00\x0d\x03" + bytes(12)), "expected 00000803"),
    ],
)
def test_a_damaged_idx_file_is_named_with_what_was_expected(mnist, damage, says):
    path = mnist / "vision/mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=says) as caught:
        Idx(root=str(mnist), root_samples=5, test=10).load()
    assert str(path) in str(caught.value)


def test_a_missing_file_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"data.root=FOLDER.*data=digits needs no file"):
        Idx().load()
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        Idx(root=str(tmp_path)).load()
    with pytest.raises(DataError, match=r"cifar10_subset\.npz"):
        Cifar10(root=str(tmp_path)).load()


def test_more_samples_than_there_are_is_refused(mnist):
    with pytest.raises(ConfigError, match="limit <= 25"):
        Idx(root=str(mnist), root_samples=5, test=10, limit=26).load()


def test_cifar_is_normalised_and_shuffled(tmp_path):
    labels = np.repeat(np.arange(10), 6).astype(np.uint8)
    images = np.full((60, 32, 32, 3), 125, np.uint8)
    np.savez(tmp_path / "cifar10.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    splits = Cifar10(root=str(tmp_path), root_samples=10).load()
    assert splits.clients.inputs.shape == (50, 3, 32, 32)
    assert abs(float(splits.clients.inputs[0, 0, 0, 0]) - (125 / 255 - 0.4914) / 0.2470) < 1e-6
    assert len(set(splits.root.labels.tolist())) > 2  # sorted rows would give one or two classes


def test_a_wrong_npz_says_what_it_lacks(tmp_path):
    np.savez(tmp_path / "cifar10.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="x_train, y_train"):
        Cifar10(root=str(tmp_path)).load()


ROW = "39, {work}, 77516, Bachelors, 13, Never-married, Sales, Husband, White, Male, {gain}, 0, 40, {land}, {pay}\n"


def test_adult_standardises_numbers_and_names_become_columns(tmp_path):
    """Two kinds of work, one of it '?': two columns. gain 0 and 2 have mean 1, deviation 1."""
    train = [ROW.format(work=w, gain=g, land="Peru", pay=p) for w, g, p in
             (("?", 0, "<=50K"), ("Private", 2, ">50K")) * 10]  # fmt: skip
    (tmp_path / "adult.data").write_text("".join(train))
    (tmp_path / "adult.test").write_text(ROW.format(work="Never", gain=4, land="Peru", pay=">50K."))
    splits = Adult(root=str(tmp_path), root_samples=2).load()
    paid = torch.cat([splits.clients.labels, splits.root.labels])
    assert int(paid.sum()) == 10 and splits.test.labels.tolist() == [1]
    assert splits.clients.inputs.shape[1] == 6 + 2 + 7
    assert splits.test.inputs[0, 3].item() == 3.0  # (4 - 1) / 1
    assert splits.test.inputs[0, 6:8].tolist() == [0, 0]  # a work nobody trained on
