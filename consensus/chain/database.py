"""Database: the chain's keys and values in one SQLite file, written whole transactions at a time.

Paper: none; our derivation (py-evm's own backend lives in memory, and its batches are not atomic).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from eth.db.backends.base import BaseAtomicDB

from fedalign.core.errors import DataError

REMEMBERED, REMEMBERED_BYTES = 16_384, 4096
Writes = Mapping[bytes, bytes | None]
"""What a transaction changes; None deletes."""


class Database(BaseAtomicDB):
    """Keys and values in `path`; None keeps them in memory only.

    Inside `transaction()` writes are collected; they reach the file together at its end or not at
    all. A killed process loses no finished transaction; a power failure may lose the latest ones
    and never breaks the file: the orderer's log brings them back.
    """

    def __init__(self, path: Path | None = None):
        self._pending: dict[bytes, bytes | None] | None = None
        self._recent: dict[bytes, bytes] = {}  # one process writes, so what it saw last holds
        try:
            target = ":memory:" if path is None else str(path)
            self._sql = sqlite3.connect(target, isolation_level=None, check_same_thread=False)
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=NORMAL")
            self._sql.execute(
                "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"The chain's database {path} cannot be opened: {error}. Give it a folder that "
                "exists, or remove the damaged file: the orderer's log rebuilds it."
            ) from error

    def __getitem__(self, key: bytes) -> bytes:
        if self._pending is not None and key in self._pending:
            value = self._pending[key]
        else:
            value = self._recent.get(key) or self._read(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._put(key, bytes(value))

    def __delitem__(self, key: bytes) -> None:
        self[key]  # KeyError where there is none
        self._put(key, None)

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    @contextmanager
    def transaction(self, commit: bool = True) -> Iterator[dict[bytes, bytes | None]]:
        """Collect writes, then keep all of them; none where the block raises.

        commit: False keeps none either way: for looking ahead. Gives the collected writes.
        Transactions do not nest.
        """
        if self._pending is not None:
            raise DataError("A transaction of the chain's database is open already.")
        self._pending = {}
        try:
            yield self._pending
            if commit:
                self._write(self._pending)
        finally:
            self._pending = None

    @contextmanager
    def atomic_batch(self) -> Iterator[Database]:
        """py-evm's batches: part of the open transaction, or one of their own."""
        if self._pending is not None:
            before = dict(self._pending)
            try:
                yield self
            except BaseException:
                self._pending.clear()
                self._pending.update(before)
                raise
            return
        with self.transaction():
            yield self

    def apply(self, writes: Writes) -> None:
        """Repeat the writes of another transaction inside the open one."""
        for key, value in writes.items():
            self._put(key, value)

    def close(self) -> None:
        self._sql.close()

    def _read(self, key: bytes) -> bytes | None:
        row = self._sql.execute("SELECT v FROM kv WHERE k = ?", (key,)).fetchone()
        if row is None:
            return None
        self._remember(key, row[0])
        return row[0]

    def _remember(self, key: bytes, value: bytes) -> None:
        if len(value) > REMEMBERED_BYTES:
            return
        if len(self._recent) >= REMEMBERED:
            self._recent.clear()
        self._recent[key] = value

    def _put(self, key: bytes, value: bytes | None) -> None:
        if self._pending is None:
            self._write({key: value})
        else:
            self._pending[key] = value

    def _write(self, writes: Writes) -> None:
        """One SQLite transaction."""
        kept = [(k, v) for k, v in writes.items() if v is not None]
        gone = [(k,) for k, v in writes.items() if v is None]
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", kept)
            if gone:
                self._sql.executemany("DELETE FROM kv WHERE k = ?", gone)
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise DataError(
                f"The chain's database cannot keep a block: {error}. Free some space and start again: "
                "nothing of it was kept."
            ) from error
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        for key, value in kept:
            self._remember(key, value)
        for (key,) in gone:
            self._recent.pop(key, None)
