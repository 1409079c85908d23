"""A worker process of the `Processes` runtime: builds its work once, then answers block by block."""

from __future__ import annotations

import io
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

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
    the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(threads)
    try:
        work = factory(device)
    except Exception as error:
        pipe.send_bytes(pack(("broken", f"{type(error).__name__}: {error}")))
        return
    pipe.send_bytes(pack(("ready",)))
    while True:
        try:
            block, memories = pickle.loads(pipe.recv_bytes())
        except EOFError:  # the parent has closed the pipe, or is gone
            return
        updates, after = work(staged(block, torch.device(device), pinned), memories)
        pipe.send_bytes(pack(("done", updates, after)))


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
    """A message between parent and worker; both are this program on this machine."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(message)
    return buffer.getvalue()
