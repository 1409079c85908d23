"""Memories survive the disk bit for bit, without a pickle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedalign.core import memory
from fedalign.core.errors import IntegrityError

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
MEMORY = st.dictionaries(
    st.text() | st.integers(),
    st.recursive(
        PLAIN | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
    max_size=4,
)


@given(MEMORY)
def test_plain_memories_come_back_equal(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("memory") / "m.safetensors"
    memory.write(path, tree)
    assert memory.read(path) == tree


def test_tensors_come_back_with_dtype_and_shape(tmp_path):
    path = tmp_path / "m.safetensors"
    tree = {
        "edge/0": {3: torch.arange(6.0).view(2, 3).T, "x": torch.tensor([1], dtype=torch.int64)}
    }
    memory.write(path, tree, durable=True)
    back = memory.read(path)
    assert torch.equal(back["edge/0"][3], tree["edge/0"][3])
    assert back["edge/0"]["x"].dtype == torch.int64


def test_what_is_no_memory_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not set"):
        memory.write(tmp_path / "m", {"a": {1, 2}})
    (tmp_path / "m").write_bytes(b"rubbish that is no safetensors file")
    with pytest.raises(IntegrityError, match="damaged"):
        memory.read(tmp_path / "m")
