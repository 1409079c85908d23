"""Runtime overhead: what a round costs beyond the work itself.

Parts: `noop`, a client-round that trains nothing, d = 1e5, here, through pfl-research and through
Flower's Ray simulation; `training`, local steps against a bare torch loop that takes the same
steps; `cifar` and `rounds` in files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from consensus.none import NoConsensus
from defenses.streamed_mean import StreamedMean
from experiments.benchmarks.pfl_peer import Pfl, absent
from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import (
    Aggregate,
    ClientInfo,
    ClientTask,
    Context,
    Dataset,
    Defense,
    Runtime,
    State,
    Updates,
    Work,
)
from fedalign.core.errors import UnknownNameError
from fedalign.core.seeds import Seeds
from fedalign.core.threat import Crafted, Knowledge
from fedalign.core.vectors import Layout
from fedalign.data.partition.iid import Iid
from fedalign.data.splits import Splits
from fedalign.federation.parts import Federation
from fedalign.federation.round import global_round
from fedalign.federation.runtimes.client_work import ClientWork, Site
from fedalign.federation.runtimes.inline import Inline
from fedalign.federation.runtimes.processes import Processes
from fedalign.federation.sampling import Sampling
from fedalign.models.lenet import Lenet
from fedalign.models.mlp import Mlp
from fedalign.models.softmax import Softmax
from fedalign.training.sgd import Sgd, batch_order
from fedalign.workloads.classification import Classification, Holdings
from incentives.none import Unpaid

Row = Mapping[str, Any]
CLIENTS, PARAMETERS = 20, 100_000
PARTS = ("noop", "training", "cifar", "rounds")
GOALS = {"Flower on Ray": 10.0, "pfl-research": 2.0}  # times our overhead, at least
PFL = {
    "kind": "noop", "clients": CLIENTS, "parameters": PARAMETERS, "epochs": 0, "batch": 1,
    "lr": 0.1, "server_lr": 1.0,
}  # fmt: skip


def measure(
    part: str,
    repetitions: int,
    pfl_python: str | None = None,
    root: str | None = None,
    runtimes: Sequence[str] | None = None,
) -> Sequence[Row]:
    """part: noop, training, cifar or rounds. Rows of one interleaved run, minimum over repetitions.
    pfl_python: an interpreter that has pfl, None takes this one. root: CIFAR-10's folder.
    runtimes: of the part rounds, None takes all."""
    torch.set_num_threads(1)
    if part == "noop":
        return _noop(repetitions, pfl_python)
    if part == "training":
        return _training(repetitions)
    if part == "cifar":
        from experiments.benchmarks.runtime_cifar import cifar

        return cifar(repetitions, pfl_python, root)
    if part == "rounds":
        from experiments.benchmarks.runtime_rounds import rounds

        return rounds(repetitions, runtimes)
    raise UnknownNameError("part of speed_runtime", part, PARTS)


class _Idle:
    """A workload of 1e5 parameters that answers at once."""

    layout = Layout.of({"weights": (PARAMETERS,)})
    clients = tuple(ClientInfo(i, 1) for i in range(CLIENTS))
    splits = frozenset({"test"})

    def initial(self) -> torch.Tensor:
        return torch.zeros(PARAMETERS)

    def train(self, tasks, memories, correct=None):
        rows = torch.stack([task.vector for task in tasks])
        ids = torch.tensor([task.client for task in tasks])
        return Updates(ids, rows, torch.ones(len(tasks), dtype=torch.int64)), memories

    def evaluate(self, vector, split="test"):
        return {"accuracy": 0.0, "loss": 0.0}


class _Mean(Defense):
    def __call__(self, updates: torch.Tensor, context: Context = Context()) -> Aggregate:
        return Aggregate.mean(updates, torch.ones(len(updates), dtype=torch.bool))


class _Honest:
    knowledge = Knowledge.OWN

    def __call__(self, view):
        return Crafted(view.own)


def idle_work(device: str = "cpu") -> ClientWork:
    """What a worker process builds to do nothing."""
    torch.set_num_threads(1)
    return ClientWork(_Idle(), FedAvg(), Seeds(0))


def _idle(runtime: Callable[[Site], Runtime], rule: Defense, block: int) -> Federation:
    work, seeds = idle_work(), Seeds(0)
    return Federation(
        work.workload, FedAvg(), runtime(Site(work, idle_work, block)), Sampling(CLIENTS),
        _Honest(), rule, seeds, b"", Unpaid(), NoConsensus(), Work(1),
    )  # fmt: skip


def _noop(repetitions: int, pfl_python: str | None) -> Sequence[Row]:
    """All of it in turn, but for Flower on Ray, which keeps both cores busy by itself."""
    state, why = State(0, _Idle().initial()), absent(pfl_python)
    with ExitStack() as stack:
        made = {
            "fedalign inline": _idle(Inline, _Mean(), 32),
            "fedalign inline, streaming": _idle(Inline, StreamedMean(), 4),
            "fedalign processes, 2": _idle(partial(Processes, processes=2), _Mean(), 5),
        }
        if find_spec("flwr") is not None:
            from fedalign.federation.runtimes.flower.runtime import Flower

            made["fedalign flower local"] = _idle(Flower, _Mean(), 32)
        for parts in made.values():
            stack.callback(parts.runtime.close)
        calls = {name: partial(global_round, parts, state) for name, parts in made.items()}
        if not why:
            calls["pfl-research"] = stack.enter_context(Pfl(pfl_python, PFL)).round
        timed = _interleaved(calls, max(repetitions, 20))
    rows = [_overhead(name, seconds / CLIENTS) for name, seconds in timed.items()]
    flower, reason = _flower_ray()
    for name, note in (("pfl-research", why), ("Flower on Ray", reason)):
        if note:
            rows.append({"table": "overhead", "runtime": name, "note": note})
    if flower is not None:
        rows.append(_overhead("Flower on Ray", flower()))
    return _compared(rows)


def _compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times below its rivals inline is, with the goals."""
    known = {row["runtime"]: row.get("ms per client-round") for row in rows}
    own = known["fedalign inline"]
    for row in rows:
        goal = GOALS.get(row["runtime"])
        if goal is not None and known[row["runtime"]] is not None:
            times = known[row["runtime"]] / own
            row |= {"x fedalign inline": round(times, 1), "goal": f">= {goal:g}",
                    "met": times >= goal}  # fmt: skip
    return rows


def _overhead(name: str, seconds: float) -> dict[str, Any]:
    return {
        "table": "overhead",
        "runtime": name,
        "ms per client-round": round(seconds * 1e3, 4),
    }


def _flower_ray() -> tuple[Callable[[], float] | None, str]:
    """Seconds per client-round of the same idle work through Flower's Ray simulation."""
    try:
        import ray  # noqa: F401
    except ImportError:
        return None, "Ray is absent: pip install 'fedalign[sim]'"
    from experiments.benchmarks.flower_ray import seconds_per_client_round

    return lambda: seconds_per_client_round(CLIENTS, PARAMETERS), ""


def _training(repetitions: int) -> Sequence[Row]:
    cases = [
        ("softmax 650", Softmax(), (1, 8, 8), 67, "vmap"),
        ("mlp 4810", Mlp(), (1, 8, 8), 67, "vmap"),
        ("mlp 4810", Mlp(), (1, 8, 8), 67, "loop"),
        ("mlp 159010", Mlp((200,)), (1, 28, 28), 250, "loop"),
        ("lenet 61706", Lenet(), (1, 28, 28), 64, "loop"),
    ]
    return [_trained(*case, repetitions) for case in cases]


def _trained(
    name: str, model: Any, shape: tuple[int, ...], samples: int, batching: str, repetitions: int
) -> Row:
    world, data = _world(model, shape, samples, batching)
    module = model.build(shape, 10)
    tasks = [ClientTask("train", c, 1, world.initial(), Work(2)) for c in range(CLIENTS)]
    orders = [
        batch_order(samples, Work(2), 32, Seeds(0).at("batch_order", round=1, client=c))
        for c in range(CLIENTS)
    ]
    start = [p.detach().clone() for p in module.parameters()]

    def ours() -> None:
        world.train(tasks, [{}] * CLIENTS)

    def bare() -> None:
        for order, lengths in orders:
            with torch.no_grad():
                for parameter, value in zip(module.parameters(), start, strict=True):
                    parameter.copy_(value)
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
            for rows, length in zip(order, lengths, strict=True):
                picked = torch.from_numpy(rows[:length])
                optimizer.zero_grad()
                cross_entropy(module(data.inputs[picked]), data.labels[picked]).backward()
                optimizer.step()

    timed = _interleaved({"ours": ours, "bare": bare}, repetitions)
    ratio = timed["ours"] / timed["bare"]
    return {
        "table": "training",
        "model": name,
        "batching": batching,
        "ours ms per client-round": round(timed["ours"] / CLIENTS * 1e3, 3),
        "bare torch ms": round(timed["bare"] / CLIENTS * 1e3, 3),
        "ratio": round(ratio, 2),
        "goal": "<= 1.15",
        "met": ratio <= 1.15,
    }


def _world(
    model: nn.Module, shape: tuple[int, ...], samples: int, batching: str
) -> tuple[Classification, Dataset]:
    rng = Seeds(0).at("benchmark")
    count = samples * CLIENTS
    inputs = torch.from_numpy(rng.random((count, *shape), dtype="float32"))
    data = Dataset(inputs, torch.from_numpy(rng.integers(0, 10, count)), 10)
    splits = Splits(data, data.take(torch.arange(32)), data.take(torch.arange(32)), "random")
    holdings = Holdings(Iid(), CLIENTS)
    return Classification(splits, holdings, model, Sgd(lr=0.1), Seeds(0), batching), data


def _interleaved(calls: Mapping[str, Callable[[], None]], repetitions: int) -> Mapping[str, float]:
    """Seconds of each call, minimum over repetitions taken in turn after one warm-up."""
    for call in calls.values():
        call()
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repetitions):
        for name, call in calls.items():
            begin = perf_counter()
            call()
            best[name] = min(best[name], perf_counter() - begin)
    return best
