"""Whole rounds on the shape of pfl-research's CIFAR-10 benchmark, here and there.

50 clients of 50 images, batches of 10, one local epoch, SGD, a CNN of 1,626,442 parameters with
dropout; the mean of all updates is the next model. Nothing is evaluated. Rounds are taken in turn
after two that warm up, the fastest of each counts; CPU seconds add all processes up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import nn

from consensus.none import NoConsensus
from defenses.streamed_mean import StreamedMean
from experiments.benchmarks.pfl_peer import Pfl, absent
from experiments.resident import cpu_s
from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import Dataset, State, Work
from fedalign.core.seeds import Seeds
from fedalign.core.threat import Crafted, Knowledge
from fedalign.data.cifar10 import Cifar10
from fedalign.data.partition.iid import Iid
from fedalign.data.splits import Splits
from fedalign.federation.parts import Federation
from fedalign.federation.round import global_round
from fedalign.federation.runtimes.client_work import ClientWork, Site
from fedalign.federation.runtimes.inline import Inline
from fedalign.federation.runtimes.processes import Processes
from fedalign.federation.sampling import Sampling
from fedalign.models.cnn import Cnn
from fedalign.training import heap
from fedalign.training.sgd import Sgd
from fedalign.workloads.classification import Classification, Holdings
from incentives.none import Unpaid

Row = Mapping[str, Any]
CLIENTS, SAMPLES, BATCH, LR = 50, 50, 10, 0.1
WARM = 2


@dataclass(frozen=True)
class Shape:
    """clients, samples (each), rates of dropout; root: a folder with CIFAR-10, None: random
    images of its shape."""

    clients: int = CLIENTS
    samples: int = SAMPLES
    dropout: tuple[float, float] = (0.25, 0.5)
    root: str | None = None

    def world(self) -> Classification:
        """The workload; the same in every process."""
        count = self.clients * self.samples
        if self.root is None:
            rng = Seeds(0).at("benchmark")
            inputs = torch.from_numpy(rng.random((count, 3, 32, 32), dtype="float32"))
            data = Dataset(inputs, torch.from_numpy(rng.integers(0, 10, count)), 10)
        else:
            data = Cifar10(root=self.root, limit=count).load().clients
        one = data.take(torch.arange(1))  # what is evaluated after a round
        splits, model = Splits(data, one, one, "benchmark"), Cnn(dropout=self.dropout)
        holdings = Holdings(Iid(), self.clients)
        return Classification(splits, holdings, model, Sgd(LR, BATCH), Seeds(0), "loop")

    def work(self, device: str = "cpu") -> ClientWork:
        """What a worker process builds."""
        torch.set_num_threads(1)
        heap.keep()  # as every run does
        return ClientWork(self.world(), FedAvg(), Seeds(0))


def cifar(repetitions: int, pfl_python: str | None, root: str | None = None) -> Sequence[Row]:
    """Rows: who, processes, seconds; ratios to pfl at equal process count."""
    shape = Shape(root=root)
    why = absent(pfl_python)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        calls: dict[tuple[str, int], Callable[[], tuple[float, float]]] = {}
        for processes in (1, 2):
            calls["fedalign", processes] = _ours(shape, processes, stack)
            if not why:
                asked = problem(shape, Path(folder) / f"{processes}")
                rival = stack.enter_context(Pfl(pfl_python, asked, processes))
                calls["pfl-research", processes] = rival.round
        found = _in_turn(calls, max(repetitions, 3))
    for (name, processes), times in found.items():
        wall, cpu = (min(t[i] for t in times) for i in (0, 1))
        row = _row(name, processes, wall, cpu)
        if ("pfl-research", processes) in found and name == "fedalign":
            theirs = found["pfl-research", processes]
            row["x pfl"] = round(min(t[0] for t in theirs) / wall, 2)
            row["x pfl, CPU"] = round(min(t[1] for t in theirs) / cpu, 2)
            row["goal"], row["met"] = ">= 1.0 x pfl", row["x pfl"] >= 1.0
        rows.append(row)
    rows += _flower(shape)
    if why:
        rows.append({"table": "cifar-10 shape", "engine": "pfl-research", "note": why})
    return rows


def problem(shape: Shape, stem: Path) -> Mapping[str, Any]:
    """The same initial model, images and split for pfl's driver."""
    world = shape.world()
    names = {part.name: view for part, view in zip(
        world.layout.parts, world.layout.views(world.initial()).values(), strict=True
    )}  # fmt: skip
    modules = dict(
        zip(_layers(names), (0, 2, 7, 10), strict=True)
    )  # places in the driver's network
    tensors = {f"layers.{modules[_place(n)]}.{n.rpartition('.')[2]}": v.numpy()
               for n, v in names.items()}  # fmt: skip
    parts = {f"part{i}": world._rows[i, False] for i in range(shape.clients)}
    pool = world._pool
    problem = stem.with_suffix(".problem.npz")
    np.savez(problem, inputs=pool.inputs.numpy(), labels=pool.labels.numpy(), **tensors, **parts)
    return {
        "kind": "cnn", "clients": shape.clients, "batch": BATCH, "epochs": 1, "lr": LR,
        "server_lr": 1.0, "dropout": list(shape.dropout), "problem": str(problem),
        "answer": str(stem.with_suffix(".answer.npz")),
    }  # fmt: skip


def _layers(names: Mapping[str, Any]) -> list[int]:
    return sorted({_place(name) for name in names})


def _place(name: str) -> int:
    return int(name.partition(".")[0])


def federation(shape: Shape, processes: int) -> Federation:
    """One row at a time: it is added up and let go, as pfl does."""
    work = shape.work()
    site = Site(work, shape.work, block=1)
    runtime = Inline(site) if processes == 1 else Processes(site, processes)
    return Federation(
        work.workload, FedAvg(), runtime, Sampling(shape.clients), _Honest(), StreamedMean(),
        Seeds(0), b"", Unpaid(), NoConsensus(), Work(1),
    )  # fmt: skip


class _Honest:
    knowledge = Knowledge.OWN

    def __call__(self, view):
        return Crafted(view.own)


def _ours(shape: Shape, processes: int, stack: ExitStack) -> Callable[[], tuple[float, float]]:
    parts = federation(shape, processes)
    stack.callback(parts.runtime.close)
    state = State(0, parts.workload.initial())

    def play() -> tuple[float, float]:
        nonlocal state
        wall, cpu = perf_counter(), process_time() + cpu_s(_workers(parts))
        state = global_round(parts, state)[0]
        return perf_counter() - wall, process_time() + cpu_s(_workers(parts)) - cpu

    return play


def _workers(parts: Federation) -> Sequence[int]:
    workers = getattr(parts.runtime, "_workers", ())
    return [worker.process.pid for worker in workers]


def _in_turn(calls: Mapping[Any, Callable[[], tuple[float, float]]], repetitions: int) -> dict:
    for call in calls.values():
        for _ in range(WARM):
            call()
    found: dict[Any, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            found[name].append(call())
    return found


def _row(name: str, processes: int, wall: float, cpu: float | None) -> dict[str, Any]:
    return {
        "table": "cifar-10 shape",
        "engine": name,
        "processes": processes,
        "s per round": round(wall, 3),
        "CPU s per round": None if cpu is None else round(cpu, 3),
        "ms per client": round(wall / CLIENTS * 1e3, 2),
    }


def _flower(shape: Shape) -> list[dict[str, Any]]:
    """Plain Flower: its FedAvg and its Ray simulation around a bare torch loop."""
    if find_spec("ray") is None:
        note = "Ray is absent: pip install 'fedalign[sim]'"
        return [{"table": "cifar-10 shape", "engine": "Flower on Ray", "note": note}]
    from experiments.benchmarks.flower_ray import seconds_per_round

    with TemporaryDirectory() as folder:
        asked = dict(problem(shape, Path(folder) / "flower"))
        file, names = _opened(asked["problem"]), list(_network(asked).state_dict())
        start = [file[name] for name in names]
        seconds = seconds_per_round(shape.clients, start, partial(_bare, asked), 3)
    return [_row("Flower on Ray", 2, seconds, None)]


def _bare(asked: Mapping[str, Any], client: int, vector: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Local training as a Flower client would write it: torch and nothing else."""
    torch.set_num_threads(1)
    module, file = _network(asked), _opened(asked["problem"])
    for parameter, value in zip(module.parameters(), vector, strict=True):
        parameter.data = torch.from_numpy(value.copy())
    part = torch.from_numpy(file[f"part{client}"])
    inputs, labels = file["inputs"][part], file["labels"][part]
    optimizer = torch.optim.SGD(module.parameters(), lr=asked["lr"])
    for start in range(0, len(part), asked["batch"]):
        rows = slice(start, start + asked["batch"])
        optimizer.zero_grad()
        loss = module.loss(torch.from_numpy(inputs[rows]), torch.from_numpy(labels[rows]))
        loss.backward()
        optimizer.step()
    return [parameter.detach().numpy() for parameter in module.parameters()]


def _network(asked: Mapping[str, Any]) -> nn.Module:
    from experiments.benchmarks.pfl_driver import Network

    return Network(asked["dropout"])


_OPEN: dict[str, dict[str, np.ndarray]] = {}


def _opened(path: str) -> Mapping[str, np.ndarray]:
    """Read once per process."""
    if path not in _OPEN:
        with np.load(path) as file:
            _OPEN[path] = dict(file)
    return _OPEN[path]
