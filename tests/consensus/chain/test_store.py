"""The model store: names prove contents, transfers resume, damage is noticed, sharing survives."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.chain import store as module
from consensus.chain.record import RoundRecord
from consensus.chain.store import Manifest, ModelStore, retained
from consensus.encoding import encode
from consensus.pofel import merkle
from fedalign.core.errors import ConfigError, DataError, IntegrityError
from tests.consensus.chain.chains import Bench

MODEL = bytes(i % 251 for i in range(1050))  # 11 chunks of 100, the last one has 50


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "a", chunk_bytes=100)


@given(st.binary(max_size=300), st.integers(1, 120))
@settings(max_examples=40, deadline=None)
def test_what_was_put_comes_back_under_its_root(tmp_path_factory, data, size):
    store = ModelStore(tmp_path_factory.mktemp("cas"), size)
    root = store.put(data)
    assert root == merkle.root_of(data, size) and store.get(root) == data and root in store
    assert ModelStore(store._chunks.parent, 7).get(root) == data  # whoever opens it later


def test_ranges_read_only_their_chunks(store):
    root = store.put(MODEL)
    for start, stop in ((0, 0), (0, 1), (99, 101), (250, 750), (1000, 1050), (0, 1050)):
        assert store.read(root, start, stop) == MODEL[start:stop]
    store._chunk(store.manifest(root).leaves[0]).unlink()
    assert store.read(root, 100, 1050) == MODEL[100:]
    with pytest.raises(DataError, match=r"Chunk 0 of model .* is not here"):
        store.read(root, 99, 101)
    with pytest.raises(ConfigError, match=r"bytes 0 .. 1050, asked were 5 .. 1051"):
        store.read(root, 5, 1051)


def test_a_proof_from_the_store_convinces_the_contract(store):
    """The chain holds 32 bytes; whoever has one chunk and its proof can show it belongs."""
    root, bench = store.put(MODEL), Bench(2)
    told = RoundRecord(1, bench.keys[0].node_id, root, chunks=11, n_bytes=len(MODEL))
    bench.block(bench.raw(bench.keys[0], "Rounds", told.call()))
    for index in (0, 5, 10):
        leaf, path = merkle.leaf(store.chunk(root, index)), list(store.proof(root, index))
        assert bench.read("ModelRegistry", "verify_chunk", 1, index, leaf, path)
        assert not bench.read("ModelRegistry", "verify_chunk", 1, index, bytes(32), path)


def test_a_transfer_resumes_where_it_stopped_and_takes_no_wrong_chunk(store, tmp_path):
    root = store.put(MODEL)
    peer = ModelStore(tmp_path / "b")
    peer.begin(root, store.manifest(root).encode())
    assert root not in peer and peer.missing(root) == list(range(11))
    for index in (3, 0, 10):
        peer.add(root, index, store.chunk(root, index))
    with pytest.raises(IntegrityError, match="ask another peer"):
        peer.add(root, 1, store.chunk(root, 2))
    again = ModelStore(tmp_path / "b")  # the process was killed
    assert again.missing(root) == [1, 2, 4, 5, 6, 7, 8, 9]
    for index in again.missing(root):
        again.add(root, index, store.chunk(root, index))
    assert root in again and again.get(root) == MODEL


def test_manifests_that_lie_are_refused(store, tmp_path):
    root = store.put(MODEL)
    good = store.manifest(root)
    peer = ModelStore(tmp_path / "b")
    for lie in (
        Manifest(1049, 100, (*good.leaves[:-1], bytes(32))),
        Manifest(1050, 100, good.leaves[::-1]),
    ):
        with pytest.raises(IntegrityError, match="asked was"):
            peer.begin(root, lie.encode())
    for bad in (b"", b"\xc0", encode([1050, 100, [bytes(32)]]), encode([5, 0, [bytes(32)]]),
                encode([10**9, 1, [bytes(32)] * 3]), good.encode() + b"\0"):  # fmt: skip
        with pytest.raises(DataError):
            peer.begin(root, bad)
    assert peer.roots() == []


@pytest.mark.parametrize("place", [0, 49, 99])
def test_a_flipped_bit_is_noticed_and_the_chunk_fetched_again(store, place):
    root = store.put(MODEL)
    path = store._chunk(store.manifest(root).leaves[4])
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"Chunk 4 .* damaged on disk"):
        store.get(root)
    assert store.missing(root) == [4] and root not in store
    store.add(root, 4, MODEL[400:500])
    assert store.get(root) == MODEL


def test_a_damaged_manifest_is_noticed(store):
    root = store.put(MODEL)
    path = store._model(root)
    path.write_bytes(Manifest(1050, 100, (bytes(32),) * 11).encode())
    with pytest.raises(IntegrityError, match=r"manifest .* is damaged"):
        store.get(root)


def test_forgetting_keeps_what_others_share(store):
    other = MODEL[:500] + bytes(550)
    first, second = store.put(MODEL), store.put(other)
    before = sum(p.stat().st_size for p in store._chunks.glob("*/*"))
    assert store.keep([second]) == before - 500 - 100 - 50  # its own zeros: one full, one short
    assert store.roots() == [second] and store.get(second) == other and first not in store
    with pytest.raises(DataError, match="no model"):
        store.get(first)


def test_a_stopped_write_leaves_nothing_that_counts(store, monkeypatch):
    def torn(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", torn)
    with pytest.raises(KeyboardInterrupt):
        store.put(MODEL)
    monkeypatch.undo()
    root = merkle.root_of(MODEL, 100)
    assert root not in store and store.roots() == []
    assert store.put(MODEL) == root and store.get(root) == MODEL
    store.keep([root])
    assert not list(store._chunks.glob("*/aside-*"))  # leftovers go with the next cleaning


def test_a_full_disk_says_so(store, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot keep a file: .*No space left"):
        store.put(MODEL)
    assert not [path for path in Path(store._chunks).glob("*/*")]


def test_bad_arguments_say_what_would_work(store):
    root = store.put(MODEL)
    with pytest.raises(ConfigError, match=r"chunks 0 .. 10, asked was 11"):
        store.proof(root, 11)
    with pytest.raises(ConfigError, match="1 byte or more"):
        ModelStore(Path("/tmp"), 0)


def test_the_last_rounds_and_every_fiftieth_stay():
    assert retained(range(1, 121)) == {50, 100, 118, 119, 120}
    assert retained([1, 2]) == {1, 2} and retained([]) == set()
