"""What every runtime does with a block of tasks, and how one failing client is kept apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from fedalign.core.contracts import Algorithm, ClientTask, Memory, Updates, Workload
from fedalign.core.errors import ClientError, ConfigError, QuorumLostError
from fedalign.core.seeds import Seeds


@dataclass(frozen=True)
class ClientWork:
    """failure_rate: in [0, 1), the share of client-rounds that crash on purpose (failure
    injection), addressed by round and client, so every runtime loses the same clients.
    jitter_s: real seconds (>= 0) that a client waits at most before it begins, drawn per round and
    client: other finishing orders, the same numbers."""

    workload: Workload
    algorithm: Algorithm
    seeds: Seeds
    failure_rate: float = 0.0
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.failure_rate < 1:
            raise ConfigError(f"failure_rate must lie in [0, 1), got {self.failure_rate}.")
        if self.jitter_s < 0:
            raise ConfigError(f"jitter_s must be 0 or more, got {self.jitter_s}.")

    def __call__(
        self, tasks: Sequence[ClientTask], memories: Sequence[Memory]
    ) -> tuple[Updates, Sequence[Memory]]:
        """One block. A client that fails has no row; its memory stays as it was."""
        if self.jitter_s:
            time.sleep(sum(self._pause_s(task) for task in tasks))
        failed = {task.client: "injected crash" for task in tasks if self._crashes(task)}
        alive = [i for i, task in enumerate(tasks) if task.client not in failed]
        after = list(memories)
        blocks = []
        if alive:
            try:
                blocks.append(self._train(tasks, memories, alive, after))
            except Exception:  # find out who it was: each client once more, alone
                for i in alive:
                    try:
                        blocks.append(self._train(tasks, memories, [i], after))
                    except Exception as error:
                        failed[tasks[i].client] = f"{type(error).__name__}: {error}"
        if not blocks:
            return nobody(tasks, failed), after
        return replace(Updates.concatenate(blocks), failed=failed), after

    def _train(self, tasks, memories, alive, after) -> Updates:
        if tasks[0].step != "train":  # pure: memories stay as they are
            some = [[row[i] for i in alive] for row in (tasks, memories)]
            asked = tasks[0].step == "evaluate"
            ask = self.algorithm.client_judge if asked else self.algorithm.client_probe
            return ask(self.workload, *some)
        updates, new = self.algorithm.client_step(
            self.workload, [tasks[i] for i in alive], [memories[i] for i in alive]
        )
        if updates.rows.shape != (len(alive), tasks[0].vector.numel()):
            raise ClientError(
                client=tasks[alive[0]].client,
                round=tasks[0].round,
                phase=tasks[0].step,
                reason=f"rows of shape {tuple(updates.rows.shape)}, expected "
                f"{(len(alive), tasks[0].vector.numel())}",
            )
        for i, memory in zip(alive, new, strict=True):
            after[i] = memory
        return updates

    def _pause_s(self, task: ClientTask) -> float:
        rng = self.seeds.at("jitter", round=task.round, client=task.client)
        return self.jitter_s * float(rng.random())

    def _crashes(self, task: ClientTask) -> bool:
        if not self.failure_rate or task.step != "train":
            return False
        rng = self.seeds.at("failure", round=task.round, client=task.client)
        return bool(rng.random() < self.failure_rate)


@dataclass(frozen=True)
class Site:
    """What a runtime is given. work: for this process. factory: device -> work, for another one;
    must be importable. block: clients per block (>= 1), part of a run's identity. devices: torch
    devices, dealt to workers in turn. threads: per process. together: a block is trained as one
    (vmap), so that other company would change the last bits of a row."""

    work: ClientWork
    factory: Callable[[str], ClientWork]
    block: int
    devices: Sequence[str] = ("cpu",)
    threads: int = 1
    together: bool = False


def nobody(tasks: Sequence[ClientTask], failed: dict[int, str]) -> Updates:
    vector = tasks[0].vector
    none = torch.zeros(0, dtype=torch.int64)
    return Updates(
        none,
        vector.new_zeros(0, vector.numel()),
        none,
        metrics={"train_loss": vector.new_zeros(0)},
        failed=failed,
    )


def check_waiting(timeout_s: float | None, quorum: float) -> None:
    """ConfigError where a runtime's patience is out of its range."""
    if timeout_s is not None and timeout_s <= 0:
        raise ConfigError(f"runtime.timeout_s must be above 0 or null, got {timeout_s}.")
    if not 0 <= quorum <= 1:
        raise ConfigError(f"runtime.quorum must lie in [0, 1], got {quorum}.")


def enough(answers: Sequence[Updates], tasks: Sequence[ClientTask], quorum: float) -> None:
    """QuorumLostError where fewer than `quorum` (0 .. 1) of the asked clients have answered."""
    there = sum(len(answer.clients) for answer in answers)
    if there >= quorum * len(tasks):
        return
    failed = {client: why for answer in answers for client, why in answer.failed.items()}
    client, why = next(iter(failed.items()), (tasks[0].client, "no reason given"))
    raise QuorumLostError(
        f"Client {client} failed in round {tasks[0].round} while it was to {tasks[0].step}: {why}. "
        f"{there} of {len(tasks)} clients answered, runtime.quorum={quorum:g} asks for more."
    )


def counted(answer: Updates) -> Updates:
    """What `enough` needs of an answer once its rows have been handed on."""
    return replace(answer, rows=answer.rows.new_zeros(0, answer.rows.shape[1]), metrics={})


@dataclass(frozen=True)
class Blocks(Sequence[Sequence[ClientTask]]):
    """Tasks cut in their order; never by worker, so that every runtime trains the same blocks.
    A block is cut when it is asked for: tasks that are made on demand are not all made at once."""

    tasks: Sequence[ClientTask]
    size: int

    def __len__(self) -> int:
        return -(-len(self.tasks) // self.size)

    def __getitem__(self, index: int) -> Sequence[ClientTask]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.tasks[index * self.size : (index + 1) * self.size]


def cut(tasks: Sequence[ClientTask], size: int) -> Iterator[Sequence[ClientTask]]:
    """The blocks of `Blocks`, one after the other."""
    yield from Blocks(tasks, size)
