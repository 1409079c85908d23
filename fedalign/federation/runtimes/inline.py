"""Inline: clients run in this process, block after block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedalign.core import memory
from fedalign.core.contracts import ClientTask, Memory, Updates
from fedalign.federation.runtimes.client_work import Site, check_waiting, counted, cut, enough


class Inline:
    """The default: no copies, no workers, one device. A client that hangs cannot be left behind
    here. quorum: share of the asked clients, in [0, 1], below which the run stops with
    QuorumLostError."""

    def __init__(self, site: Site, quorum: float = 0.0):
        check_waiting(None, quorum)
        self._work, self._block, self._quorum = site.work, site.block, quorum
        self._memories: dict[int, Memory] = {}

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[Updates]:
        """Blocks in task order."""
        answers = []
        for block in cut(tasks, self._block):
            updates, after = self._work(block, [self._memories.get(t.client, {}) for t in block])
            self._memories.update({t.client: m for t, m in zip(block, after, strict=True) if m})
            answers += [counted(updates)] if self._quorum else []
            yield updates
        if self._quorum:
            enough(answers, tasks, self._quorum)

    def save(self, folder: Path) -> None:
        """Client memories, for a checkpoint."""
        memory.write(folder / "clients.safetensors", self._memories, durable=True)

    def load(self, folder: Path) -> None:
        self._memories = memory.read(folder / "clients.safetensors")

    def close(self) -> None:
        """Nothing to end."""
