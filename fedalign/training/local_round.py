"""What a client does to an adapter in one round: local steps, moments it may keep, how it fails."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fedalign.core.contracts import ClientTask, Gradient, Memory
from fedalign.core.errors import ClientError
from fedalign.training.deepspeed import Partitioned
from fedalign.training.flat import FlatModel
from fedalign.training.tuning import FailedStep, Tuning, adamw


def local_round(
    flat: FlatModel | Partitioned,
    task: ClientTask,
    memory: Memory,
    steps: int,
    backward: Callable[[int], float],
    rate: Callable[[int], float],
    tuning: Tuning,
    correct: Gradient | None = None,
) -> tuple[Tensor, float, Memory]:
    """`steps` steps from the task's vector: the row (d,), trained minus received, the mean loss and
    the client's memory, its moments in it where `tuning` keeps them. ClientError names who failed."""
    start = task.vector.to(flat.vector.device)
    name = "moments_poisoned" if task.poisoned else "moments"
    try:
        if isinstance(flat, Partitioned):
            vector, loss = flat.adamw(start, steps, backward, rate, correct)
            return vector - start, loss, memory
        before = memory.get(name) if tuning.moments == "kept" else None
        done = adamw(flat, start, steps, backward, rate, tuning, correct, before)
    except FailedStep as error:
        raise ClientError(
            client=task.client, round=task.round, phase=task.step, reason=str(error)
        ) from error
    after = {**memory, name: done.moments} if tuning.moments == "kept" else memory
    return done.vector - start, done.loss, after
