"""Store: models on disk under the hash of their contents, chunk by chunk, each with its proof.

Paper: Benet, "IPFS: Content Addressed, Versioned, P2P File System", arXiv 1407.3561, 2014; the tree
is that of RFC 6962, and only its root goes on the chain.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from consensus.encoding import decode, encode
from consensus.pofel import merkle
from consensus.pofel.merkle import CHUNK_BYTES, Tree
from consensus.pofel.messages import exactly, many, uint
from fedalign.core.errors import ConfigError, DataError, IntegrityError

MOST_CHUNKS = 1 << 16


@dataclass(frozen=True)
class Manifest:
    """What a model consists of. n_bytes: its length. leaves: the hash of every chunk, in order."""

    n_bytes: int
    chunk_bytes: int
    leaves: tuple[bytes, ...]

    @property
    def root(self) -> bytes:
        """What the chain holds."""
        return Tree(self.leaves).root

    def size(self, index: int) -> int:
        """Bytes of chunk `index`; only the last one is shorter."""
        return min(self.chunk_bytes, self.n_bytes - index * self.chunk_bytes)

    def encode(self) -> bytes:
        return encode([self.n_bytes, self.chunk_bytes, list(self.leaves)])

    @staticmethod
    def decode(data: bytes) -> Manifest:
        """Raises DataError unless length, chunk size and number of leaves fit together."""
        items = decode(data)
        if not isinstance(items, tuple) or len(items) != 3:
            raise DataError("A model's manifest is its length, its chunk size and its leaves.")
        length, chunk = uint(64)(items[0]), uint(32)(items[1])
        leaves = many(exactly(32), MOST_CHUNKS)(items[2])
        if chunk < 1 or len(leaves) != max(1, -(-length // chunk)):
            raise DataError(
                f"A model of {length} bytes in chunks of {chunk} has not {len(leaves)} leaves."
            )
        return Manifest(length, chunk, leaves)


class ModelStore:
    """Models in `folder`, which is created if it is missing.

    chunk_bytes: of models put here, >= 1. A chunk that two models share is kept once. Files are
    written aside and renamed, so a file that is there is whole.
    """

    def __init__(self, folder: Path, chunk_bytes: int = CHUNK_BYTES):
        if chunk_bytes < 1:
            raise ConfigError(f"Chunks have 1 byte or more, got {chunk_bytes}.")
        self._chunks, self._models = Path(folder) / "chunks", Path(folder) / "models"
        self._size = chunk_bytes
        for part in (self._chunks, self._models):
            part.mkdir(parents=True, exist_ok=True)

    # ------------------------------------------------------------ own models

    def put(self, data: bytes | memoryview) -> bytes:
        """Keep a model; its root."""
        parts = list(merkle.chunks(data, self._size))
        leaves = tuple(map(merkle.leaf, parts))
        for leaf, part in zip(leaves, parts, strict=True):
            self._write(self._chunk(leaf), part)
        manifest = Manifest(len(memoryview(data).cast("B")), self._size, leaves)
        self._write(self._model(manifest.root), manifest.encode())
        return manifest.root

    def get(self, root: bytes) -> bytes:
        """A model's bytes, every chunk checked. Raises DataError where one is missing,
        IntegrityError where one is damaged."""
        return self.read(root, 0, self.manifest(root).n_bytes)

    def read(self, root: bytes, start: int, stop: int) -> bytes:
        """Bytes start .. stop - 1 of a model; reads and checks only the chunks they lie in."""
        manifest = self.manifest(root)
        if not 0 <= start <= stop <= manifest.n_bytes:
            raise ConfigError(
                f"The model has bytes 0 .. {manifest.n_bytes}, asked were {start} .. {stop}."
            )
        size = manifest.chunk_bytes
        first, end = start // size, -(-stop // size)
        data = b"".join(self.chunk(root, i) for i in range(first, end))
        return data[start - first * size : stop - first * size]

    # ------------------------------------------------------------ from peers

    def begin(self, root: bytes, manifest: bytes) -> Manifest:
        """Expect a model: its manifest, as a peer sent it. Raises DataError or IntegrityError."""
        found = Manifest.decode(manifest)
        if found.root != root:
            raise IntegrityError(
                f"The manifest is of model {found.root.hex()[:16]}, asked was {root.hex()[:16]}."
            )
        self._write(self._model(root), manifest)
        return found

    def missing(self, root: bytes) -> list[int]:
        """Which chunks of an expected model are still to be fetched: after a stop, the rest."""
        leaves = self.manifest(root).leaves
        return [i for i, leaf in enumerate(leaves) if not self._chunk(leaf).is_file()]

    def add(self, root: bytes, index: int, data: bytes) -> None:
        """Keep one chunk that a peer sent. Raises IntegrityError where it is another one."""
        leaf = self._leaf(root, index)
        if merkle.leaf(data) != leaf:
            raise IntegrityError(
                f"Chunk {index} of model {root.hex()[:16]} is not what its root names: ask "
                "another peer."
            )
        self._write(self._chunk(leaf), data)

    # ------------------------------------------------------------ serving

    def __contains__(self, root: bytes) -> bool:
        """Whether all of a model is here."""
        return self._model(root).is_file() and not self.missing(root)

    def manifest(self, root: bytes) -> Manifest:
        """Raises DataError where this model is unknown here, IntegrityError where it is damaged."""
        try:
            found = Manifest.decode(self._model(root).read_bytes())
        except FileNotFoundError:
            raise DataError(f"There is no model {root.hex()} here: fetch its manifest.") from None
        if found.root != root:
            raise IntegrityError(f"The manifest {self._model(root)} is damaged: fetch it again.")
        return found

    def chunk(self, root: bytes, index: int) -> bytes:
        """One chunk, checked. A damaged one is removed, so that it counts as missing."""
        leaf = self._leaf(root, index)
        path = self._chunk(leaf)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DataError(
                f"Chunk {index} of model {root.hex()[:16]} is not here: fetch it from a peer."
            ) from None
        if merkle.leaf(data) != leaf:
            path.unlink()
            raise IntegrityError(
                f"Chunk {index} of model {root.hex()[:16]} was damaged on disk: fetch it again."
            )
        return data

    def proof(self, root: bytes, index: int) -> tuple[bytes, ...]:
        """That chunk `index` belongs to the root: what ModelRegistry.verify_chunk takes."""
        self._leaf(root, index)
        return Tree(self.manifest(root).leaves).proof(index)

    # ------------------------------------------------------------ what may go

    def roots(self) -> list[bytes]:
        """The models that are known here, complete or not."""
        return sorted(bytes.fromhex(path.name) for path in self._models.iterdir())

    def keep(self, roots: Collection[bytes]) -> int:
        """Forget every other model; chunks that a kept one shares stay. The bytes it freed."""
        for root in set(self.roots()) - set(roots):
            self._model(root).unlink()
        wanted = {leaf for root in self.roots() for leaf in self.manifest(root).leaves}
        freed = 0
        for path in self._chunks.glob("*/*"):
            if len(path.name) != 64 or bytes.fromhex(path.name) not in wanted:
                freed += path.stat().st_size
                path.unlink()
        return freed

    # ------------------------------------------------------------ inside

    def _leaf(self, root: bytes, index: int) -> bytes:
        leaves = self.manifest(root).leaves
        if not 0 <= index < len(leaves):
            raise ConfigError(
                f"Model {root.hex()[:16]} has chunks 0 .. {len(leaves) - 1}, asked was {index}."
            )
        return leaves[index]

    def _chunk(self, leaf: bytes) -> Path:
        name = leaf.hex()
        return self._chunks / name[:2] / name

    def _model(self, root: bytes) -> Path:
        return self._models / root.hex()

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        """Whole or not at all. Raises DataError where the disk takes no more."""
        if path.is_file():
            return
        aside = None
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix="aside-", delete=False
            ) as file:
                aside = file.name
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except OSError as error:
            if aside is not None:
                Path(aside).unlink(missing_ok=True)
            raise DataError(
                f"The model store {self._models.parent} cannot keep a file: {error}. Free some space "
                "or give it another folder."
            ) from error


def retained(rounds: Iterable[int], last: int = 3, every: int = 50) -> set[int]:
    """The rounds whose models stay: the `last` ones and every `every`-th."""
    known = sorted(rounds)
    return set(known[-last:] if last else []) | {r for r in known if r % every == 0}
