"""A worker process of the `Processes` runtime: builds its work once, then answers block by block."""

from __future__ import annotations

import io
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedalign.core.contracts import ClientTask
from fedalign.federation.runtimes.client_work import ClientWork


def serve(
    pipe: Connection,
    factory: Callable[[str], ClientWork],
    device: str,
    threads: int,
    pinned: bool,
) -> None:
    """Says ("ready",) or ("broken", why) once, then ("done", updates, memories) per block, until
    the pipe closes. A block is (tasks, memories, model): the model of tasks that come without one,
    None where it is the last block's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(threads)
    try:
        work = factory(device)
    except Exception as error:
        send(pipe, ("broken", f"{type(error).__name__}: {error}"))
        return
    send(pipe, ("ready",))
    last = None
    while True:
        try:
            block, memories, model = receive(pipe)
        except EOFError:  # the parent has closed the pipe, or is gone
            return
        last = last if model is None else model
        whole = [replace(t, vector=last) if t.vector is None else t for t in block]
        updates, after = work(staged(whole, torch.device(device), pinned), memories)
        send(pipe, ("done", updates, after))


def staged(tasks: Sequence[ClientTask], device: torch.device, pinned: bool) -> Sequence[ClientTask]:
    """Tasks whose models lie on `device`, each distinct one moved once; through page-locked memory
    where `pinned`, which lets a GPU fetch it without a copy. On a processor nothing moves."""
    if device.type == "cpu":
        return tasks
    there: dict[int, Tensor] = {}
    for task in tasks:
        if id(task.vector) not in there:
            here = task.vector.pin_memory() if pinned else task.vector
            there[id(task.vector)] = here.to(device, non_blocking=pinned)
    return [replace(task, vector=there[id(task.vector)]) for task in tasks]


class _Pickler(pickle.Pickler):
    """Tensors travel as arrays: one copy, no shared-memory files to leak."""

    def reducer_override(self, value: object):
        if isinstance(value, Tensor):
            plain = value.detach().cpu()
            if plain.dtype == torch.bfloat16:  # NumPy has none, so its bits go
                return _bfloat16, (plain.view(torch.int16).numpy(),)
            return torch.from_numpy, (plain.numpy(),)
        return NotImplemented


def _bfloat16(bits) -> Tensor:
    return torch.from_numpy(bits).view(torch.bfloat16)


def pack(message: object) -> bytes:
    """A message between two processes of this program on this machine, in one piece."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()


def send(pipe: Connection, message: object) -> None:
    """The message, and behind it every large array from where it lies."""
    buffer, arrays = io.BytesIO(), []
    _Pickler(buffer, protocol=5, buffer_callback=arrays.append).dump(message)
    raws = [array.raw() for array in arrays]
    pipe.send_bytes(pickle.dumps((buffer.getvalue(), [raw.nbytes for raw in raws])))
    for raw in raws:
        while raw.nbytes:
            raw = raw[os.write(pipe.fileno(), raw) :]


def receive(pipe: Connection) -> Any:
    """What `send` sent. Raises EOFError or OSError where the other side ends."""
    message, sizes = pickle.loads(pipe.recv_bytes())
    arrays = [np.empty(size, dtype=np.uint8) for size in sizes]
    for array in arrays:
        left = memoryview(array)
        while left.nbytes:
            read = os.readv(pipe.fileno(), [left])
            if not read:
                raise EOFError
            left = left[read:]
    return pickle.loads(message, buffers=arrays)
