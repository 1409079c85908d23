"""Processes: blocks of clients run in worker processes, each bound to one device.

Blocks are cut by client order and answered in task order, so any number of workers gives the
same rows. A worker that dies takes its block's round with it, not the run: its clients are
reported as failed and a new worker takes its place.
"""

from __future__ import annotations

import io
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from fedalign.core import memory
from fedalign.core.contracts import ClientTask, Memory, Updates
from fedalign.core.errors import ConfigError, FedalignError
from fedalign.federation.runtimes.client_work import ClientWork, Site, cut, nobody


class Processes:
    """processes: workers (>= 1). devices: where they train, dealt in turn; None takes the site's."""

    def __init__(self, site: Site, processes: int = 2, devices: Sequence[str] | None = None):
        if processes < 1:
            raise ConfigError(f"runtime.processes must be 1 or more, got {processes}.")
        places = devices or site.devices
        self._factory, self._block, self._threads = site.factory, site.block, site.threads
        self._devices = [places[i % len(places)] for i in range(processes)]
        self._workers = [self._start(device) for device in self._devices]
        self._memories: dict[int, Memory] = {}

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[Updates]:
        """Blocks in task order; block b goes to worker b mod processes."""
        blocks = list(cut(tasks, self._block))
        width = len(self._workers)
        for index in range(min(width, len(blocks))):
            self._send(index, blocks[index])
        for index, block in enumerate(blocks):
            updates = self._receive(index % width, block)
            if index + width < len(blocks):
                self._send(index % width, blocks[index + width])
            yield updates

    def save(self, folder: Path) -> None:
        """Client memories, for a checkpoint."""
        memory.write(folder / "clients.safetensors", self._memories, durable=True)

    def load(self, folder: Path) -> None:
        self._memories = memory.read(folder / "clients.safetensors")

    def close(self) -> None:
        """End all workers."""
        for process, pipe in self._workers:
            pipe.close()
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def _start(self, device: str) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_serve, args=(there, self._factory, device, self._threads), daemon=True
        )
        process.start()
        there.close()
        return process, here

    def _send(self, worker: int, block: Sequence[ClientTask]) -> None:
        memories = [self._memories.get(task.client, {}) for task in block]
        try:
            self._workers[worker][1].send_bytes(_pack((block, memories)))
        except OSError:  # it died while idle: _receive notices and replaces it
            return

    def _receive(self, worker: int, block: Sequence[ClientTask]) -> Updates:
        try:
            kind, *answer = pickle.loads(self._workers[worker][1].recv_bytes())
        except (EOFError, OSError):
            process, _ = self._workers[worker]
            process.join(timeout=5)
            self._workers[worker] = self._start(self._devices[worker])
            reason = f"its worker process ended (exit code {process.exitcode})"
            return nobody(block, {task.client: reason for task in block})
        if kind == "broken":
            raise FedalignError(f"A worker process could not start: {answer[0]}")
        updates, after = answer
        self._memories.update({t.client: m for t, m in zip(block, after, strict=True) if m})
        return updates


def _serve(
    pipe: Connection, factory: Callable[[str], ClientWork], device: str, threads: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(threads)
    try:
        work = factory(device)
    except Exception as error:
        pipe.send_bytes(_pack(("broken", f"{type(error).__name__}: {error}")))
        return
    while True:
        try:
            block, memories = pickle.loads(pipe.recv_bytes())
        except EOFError:  # the parent has closed the pipe, or is gone
            return
        updates, after = work(block, memories)
        pipe.send_bytes(_pack(("done", updates, after)))


class _Pickler(pickle.Pickler):
    """Tensors travel as arrays: one copy, no shared-memory files to leak."""

    def reducer_override(self, value: object):
        if isinstance(value, Tensor):
            return torch.from_numpy, (value.detach().cpu().numpy(),)
        return NotImplemented


def _pack(message: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()
