"""Processes: blocks of clients run in worker processes, each bound to one device.

Blocks are cut by client order and answered in task order, so any number of workers, finishing in
any order, gives the same rows. A worker that dies or hangs takes its block's round with it, not
the run: its clients are reported as failed and a new worker takes its place.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch import Tensor

from fedalign.core import memory
from fedalign.core.contracts import ClientTask, Memory, Updates
from fedalign.core.errors import FedalignError
from fedalign.federation.runtimes.client_work import (
    Blocks,
    Site,
    check_waiting,
    counted,
    enough,
    nobody,
)
from fedalign.federation.runtimes.placement import seen, workers
from fedalign.federation.runtimes.worker import receive, send, serve


@dataclass
class _Worker:
    """block: the index of what it works on, None while it is idle. ready: it has built its work.
    model: the last that it was sent, with its version; held, so that no other has its identity."""

    device: str
    process: BaseProcess
    pipe: Connection
    block: int | None = None
    ready: bool = False
    model: tuple[Tensor, int] | None = None

    def deal(self, block: Sequence[ClientTask], memories: Sequence[Memory]) -> None:
        """Send a block; a model that all its tasks share, once for as long as it stays the same."""
        model = block[0].vector
        if model.is_inference() or any(task.vector is not model for task in block):
            send(self.pipe, (block, memories, None))
            return
        known = self.model is not None and self.model[0] is model
        known = known and self.model[1] == model._version
        light = [replace(task, vector=None) for task in block]
        send(self.pipe, (light, memories, None if known else model))
        self.model = model, model._version


class Processes:
    """processes: workers in all (>= 1); null: as many as the rest allows, without it one per GPU
    and two on processors. devices: torch devices where they train; null takes the site's.
    clients_per_device: workers side by side on each (>= 1). client_gib: memory one client needs on
    a device (> 0, GiB); as many workers as fit into what is free. pinned: models reach GPUs through
    page-locked memory. timeout_s: seconds (> 0) after which a round goes on without those that have
    not answered, once the workers are up; null waits. quorum: share of the asked clients, in
    [0, 1], below which the run stops with QuorumLostError. start_s: seconds (> 0) for the workers
    to come up.
    """

    def __init__(
        self,
        site: Site,
        processes: int | None = None,
        devices: Sequence[str] | None = None,
        clients_per_device: int | None = None,
        client_gib: float | None = None,
        pinned: bool = True,
        timeout_s: float | None = None,
        quorum: float = 0.0,
        start_s: float = 120.0,
    ):
        check_waiting(timeout_s, quorum)
        self._site, self._pinned, self._start_s = site, pinned, start_s
        self._timeout_s, self._quorum = timeout_s, quorum
        places = seen(devices or site.devices)
        dealt = workers(places, processes, clients_per_device, client_gib)
        self._workers = [self._start(device) for device in dealt]
        self._memories: dict[int, Memory] = {}

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[Updates]:
        """Blocks in task order; whoever is idle takes the next."""
        blocks = Blocks(tasks, self._site.block)
        waiting, answers = deque(range(len(blocks))), {}
        self._await_workers()
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        for index in range(len(blocks)):
            while index not in answers:
                self._deal(blocks, waiting)
                for worker in self._speaking(deadline):
                    self._hear(worker, blocks, answers)
                if deadline is not None and time.monotonic() >= deadline:
                    self._leave_behind(blocks, waiting, answers)
            yield answers[index]
            answers[index] = counted(answers[index])  # rows are the caller's to keep
        enough([answers[index] for index in range(len(blocks))], tasks, self._quorum)

    def save(self, folder: Path) -> None:
        """Client memories, for a checkpoint."""
        memory.write(folder / "clients.safetensors", self._memories, durable=True)

    def load(self, folder: Path) -> None:
        self._memories = memory.read(folder / "clients.safetensors")

    def close(self) -> None:
        """End all workers; one that is still at work is not waited for."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            if worker.block is not None or not worker.ready:
                worker.process.kill()
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start(self, device: str) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=serve,
            args=(there, self._site.factory, device, self._site.threads, self._pinned),
            daemon=True,
        )
        process.start()
        there.close()
        return _Worker(device, process, here)

    def _await_workers(self) -> None:
        """Somebody must be up, all where time is limited: importing and building count for nobody."""
        deadline, enough_up = (
            time.monotonic() + self._start_s,
            any if self._timeout_s is None else all,
        )
        while not enough_up(worker.ready for worker in self._workers):
            if time.monotonic() > deadline:
                raise FedalignError(
                    f"The worker processes were not up within {self._start_s:g} s: raise "
                    "runtime.start_s or take fewer runtime.processes."
                )
            for worker in self._speaking(deadline):
                self._hear(worker, [], {})

    def _deal(self, blocks: Sequence[Sequence[ClientTask]], waiting: deque[int]) -> None:
        for worker in list(self._workers):
            if waiting and worker.ready and worker.block is None:
                block = blocks[waiting[0]]
                memories = [self._memories.get(task.client, {}) for task in block]
                try:
                    worker.deal(block, memories)
                except OSError:  # it died while idle: the block is another's
                    self._replace(worker)
                else:
                    worker.block = waiting.popleft()

    def _speaking(self, deadline: float | None) -> list[_Worker]:
        """Workers whose pipe has something to read, its end included; none after the deadline."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        found = wait([worker.pipe for worker in self._workers], left)
        return [worker for worker in self._workers if worker.pipe in found]

    def _hear(
        self,
        worker: _Worker,
        blocks: Sequence[Sequence[ClientTask]],
        answers: dict[int, Updates],
    ) -> None:
        """Read one message of a worker; one that has ended is replaced."""
        index, worker.block = worker.block, None
        try:
            kind, *content = receive(worker.pipe)
        except (EOFError, OSError):
            ready, code = worker.ready, self._replace(worker)
            if not ready:
                raise FedalignError(
                    f"A worker process for {worker.device} ended before it was up (exit code {code})."
                ) from None
            if index is not None:
                reason = f"its worker process ended (exit code {code})"
                answers[index] = _failed(blocks[index], reason)
            return
        if kind == "broken":
            raise FedalignError(f"A worker process could not start: {content[0]}")
        if kind == "ready":
            worker.ready = True
            return
        answers[index], after = content
        for task, kept in zip(blocks[index], after, strict=True):
            if kept:
                self._memories[task.client] = kept

    def _replace(self, worker: _Worker) -> int | None:
        """End a worker and start another in its place; returns how the old one ended."""
        worker.pipe.close()
        worker.process.join(timeout=0.5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        fresh = self._start(worker.device)
        self._workers[self._workers.index(worker)] = fresh
        return worker.process.exitcode

    def _leave_behind(
        self,
        blocks: Sequence[Sequence[ClientTask]],
        waiting: deque[int],
        answers: dict[int, Updates],
    ) -> None:
        """The time is over: whoever is still at work is ended, and what waits is not begun."""
        for worker in [w for w in self._workers if w.block is not None]:
            reason = f"its worker process gave no answer within {self._timeout_s:g} s"
            answers[worker.block] = _failed(blocks[worker.block], reason)
            self._replace(worker)
        for index in waiting:
            reason = f"no worker process was free within {self._timeout_s:g} s"
            answers[index] = _failed(blocks[index], reason)
        waiting.clear()


def _failed(block: Sequence[ClientTask], reason: str) -> Updates:
    return nobody(block, {task.client: reason for task in block})
