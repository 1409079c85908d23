"""Memories survive the disk bit for bit, without a pickle."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

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


@pytest.mark.parametrize("dtype", list(memory.DTYPES), ids=str)
def test_every_kind_of_number_survives_beside_others(tmp_path, dtype):
    path = tmp_path / "m.safetensors"
    values = torch.tensor([0, 1, 1, 0, 1]).to(dtype)
    tree = [torch.tensor(True), values[::2], torch.zeros(0, 3), {"s": values[1]}]
    memory.write(path, {"all": tree})
    back = memory.read(path)["all"]
    for kept, told in zip((*back[:3], back[3]["s"]), (*tree[:3], tree[3]["s"]), strict=True):
        assert kept.dtype == told.dtype and torch.equal(kept, told)
    assert torch.equal(load_file(path)["1"], values[::2])  # as others read the format


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells what is in memory")
def test_a_memory_that_lives_on_disk_never_comes_into_memory(tmp_path, monkeypatch):
    """96 MB in a file, written and read back while nothing of that size is allocated."""
    monkeypatch.setattr(memory, "MAPPED", 1 << 20)
    disk = np.memmap(tmp_path / "rows", dtype=np.float32, mode="w+", shape=(24, 1_000_000))
    disk[:] = np.arange(24, dtype=np.float32)[:, None]
    tree = {"rows": [torch.from_numpy(row) for row in disk]}
    peak, ended, before = [0], threading.Event(), anonymous()

    def watch():
        while not ended.wait(0.001):
            peak[0] = max(peak[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    memory.write(tmp_path / "m.safetensors", tree)
    back = memory.read(tmp_path / "m.safetensors")
    ends = [float(row[-1]) for row in back["rows"]]
    ended.set()
    watcher.join()
    assert ends == [float(i) for i in range(24)]
    assert peak[0] < 32e6


def test_what_is_no_memory_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not set"):
        memory.write(tmp_path / "m", {"a": {1, 2}})
    with pytest.raises(TypeError, match="complex64"):
        memory.write(tmp_path / "m", {"a": torch.zeros(2, dtype=torch.complex64)})
    (tmp_path / "m").write_bytes(b"rubbish that is no safetensors file")
    with pytest.raises(IntegrityError, match="damaged"):
        memory.read(tmp_path / "m")
