"""A rank group: several processes that hold one workload together and answer as one.

Every rank builds the workload and gets every call in the same order, so that what they compute
together (collectives) meets; rank 0 answers.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import socket
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor

from fedalign.core.contracts import ClientTask, Gradient, Memory, Updates, Workload
from fedalign.core.errors import ConfigError, FedalignError
from fedalign.federation.runtimes.worker import pack

Join = Callable[[int, int, int, str], None]  # rank, ranks, port, device


class RankGroup:
    """See fedalign.core.contracts.Workload. factory: device -> the workload; must be importable, as
    must `join`, by which a process becomes a rank, and `leave`. devices: one per rank in turn."""

    def __init__(
        self, factory: Callable[[str], Workload], join: Join, leave: Callable[[], None],
        processes: int, devices: Sequence[str] = ("cpu",), threads: int = 1,
    ):  # fmt: skip
        context, port = multiprocessing.get_context("spawn"), _free_port()
        self._ranks: list[tuple[BaseProcess, Connection]] = []
        for rank in range(processes):
            here, there = context.Pipe()
            device = devices[rank % len(devices)]
            job = (there, factory, (join, leave), (rank, processes, port, device), threads)
            process = context.Process(target=_serve, args=job, daemon=True)
            process.start()
            there.close()
            self._ranks.append((process, here))
        self._finalizer = weakref.finalize(self, _close, self._ranks)
        facts = self._answer()
        self.layout, self.clients, self.source = facts["layout"], facts["clients"], facts["source"]
        self.splits, self._initial = facts["splits"], facts["initial"]

    def initial(self) -> Tensor:
        """(d,), what the workload starts from."""
        return self._initial.clone()

    def train(
        self,
        tasks: Sequence[ClientTask],
        memories: Sequence[Memory],
        correct: Gradient | None = None,
    ) -> tuple[Updates, Sequence[Memory]]:
        """As the workload's own."""
        if correct is not None:
            raise ConfigError(
                "A rank group keeps no whole gradient that an algorithm could correct: take "
                "algorithm=fedavg."
            )
        return self._call("train", tasks, memories)

    def evaluate(self, vector: Tensor, split: str = "test") -> Mapping[str, float]:
        """As the workload's own."""
        return self._call("evaluate", vector, split)

    def samples(self, vector: Tensor) -> Sequence[Mapping[str, Any]]:
        """As the workload's own."""
        return self._call("samples", vector)

    def close(self) -> None:
        """End all ranks; so does dropping the last reference to the group."""
        self._finalizer()

    def _call(self, name: str, *arguments: Any) -> Any:
        message = pack((name, arguments))
        for _, pipe in self._ranks:
            pipe.send_bytes(message)
        return self._answer()

    def _answer(self) -> Any:
        """Rank 0's. A rank that ends takes the group with it: the others would wait for it."""
        answers: dict[int, Any] = {}
        pipes = {pipe: rank for rank, (_, pipe) in enumerate(self._ranks)}
        while len(answers) < len(self._ranks):
            for pipe in wait([p for p, rank in pipes.items() if rank not in answers]):
                rank = pipes[pipe]
                try:
                    answers[rank] = pickle.loads(pipe.recv_bytes())
                except (EOFError, OSError):
                    process = self._ranks[rank][0]
                    process.join(timeout=5)
                    self._end()
                    raise FedalignError(
                        f"Rank {rank} of the rank group ended (exit code {process.exitcode}), so "
                        "the group cannot go on: run the study again, finished rounds are kept."
                    ) from None
        kind, answer = answers[0]
        if kind == "failed":
            raise answer
        return answer

    def _end(self) -> None:
        for process, _ in self._ranks:
            process.kill()
        self.close()


def _close(ranks: list[tuple[BaseProcess, Connection]]) -> None:
    for _, pipe in ranks:
        pipe.close()
    for process, _ in ranks:
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()
    ranks.clear()


def _serve(
    pipe: Connection, factory: Callable[[str], Workload], group: tuple[Join, Callable[[], None]],
    place: tuple[int, int, int, str], threads: int,
) -> None:  # fmt: skip
    """A rank: what the workload is once, then an answer per call, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(threads)
    join, leave = group
    try:
        join(*place)
        workload = factory(place[3])
        facts = {name: getattr(workload, name) for name in ("layout", "clients", "source")}
        _say(pipe, "done", {**facts, "splits": workload.splits, "initial": workload.initial()})
    except Exception as error:
        _say(pipe, "failed", error)
        return
    while True:
        try:
            name, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:  # the parent has closed the pipe, or is gone
            return leave()
        try:
            _say(pipe, "done", getattr(workload, name)(*arguments))
        except Exception as error:
            _say(pipe, "failed", error)


def _say(pipe: Connection, kind: str, what: Any) -> None:
    """Errors that cannot travel go as their sentence."""
    if kind == "failed":
        try:
            pickle.loads(pack(what))
        except Exception:
            what = FedalignError(f"{type(what).__name__}: {what}")
    pipe.send_bytes(pack((kind, what)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
