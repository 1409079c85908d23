"""The ClientApp that trains blocks of clients, the ServerApp that plays a run, an in-process grid.

`client` and `server` are what a Flower app names in its pyproject. The ServerApp reads its cell
from the run config; the in-process grid calls ClientApps directly, one after the other.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from typing import Any
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run

from fedalign.core.contracts import Memory, Updates
from fedalign.core.errors import ConfigError, FedalignError
from fedalign.federation.runtimes.client_work import ClientWork
from fedalign.federation.runtimes.flower import wire
from fedalign.federation.runtimes.flower.joined import REPORT, joined
from fedalign.federation.runtimes.flower.shelf import Held, Shelf

CRASHED = 3  # Flower's code of a ClientApp that raised


def client_app(
    work: ClientWork | None = None, state_dir: Path | Held | None = None, mods: Sequence[Mod] = ()
) -> ClientApp:
    """A ClientApp for orders of a `Flower` runtime. work: what this process has built already;
    None builds it from the order's cell, once per cell. state_dir: where memories stay, a folder
    or this process; None takes the node config's `state-dir`. mods: Flower mods around it."""
    app = ClientApp(mods=list(mods))
    app.train()(partial(_train, work, state_dir))
    app.query()(_introduce)
    return app


def _train(
    work: ClientWork | None, state_dir: Path | Held | None, message: Message, context: Context
) -> Message:
    order = wire.read_order(message)
    node = int(context.node_config.get("partition-id", 0))
    if isinstance(state_dir, Held):
        shelf = state_dir.shelf(order.run, node)
    else:
        shelf = Shelf(place(state_dir, context) / order.run / str(node))
    pairs = list(zip(order.tasks, order.versions, strict=True))
    before = [shelf.read(task.client, version) for task, (version, _) in pairs]
    updates, after = _blocks(work or built(order.cell), order, before)
    kept = []
    for (task, versions), old, new in zip(pairs, before, after, strict=True):
        if new and new is not old:
            shelf.write(task.client, order.turn, new, versions)
            kept.append(task.client)
    return wire.answer(wire.Answer(updates, kept, node), message)


def _blocks(
    work: ClientWork, order: wire.Order, before: Sequence[Memory]
) -> tuple[Updates, list[Memory]]:
    """One block after the other, each trained as everywhere else."""
    answers, after, start = [], [], 0
    for size in order.sizes:
        span = slice(start, start + size)
        updates, memories = work(order.tasks[span], before[span])
        answers.append(updates)
        after += memories
        start += size
    return Updates.concatenate(answers), after


def _introduce(message: Message, context: Context) -> Message:
    return wire.introduction(int(context.node_config.get("partition-id", 0)), message)


def place(state_dir: Path | None, context: Context) -> Path:
    """The folder of a node's memories: argument, node config, FEDALIGN_STATE_DIR, or the user's
    cache folder."""
    named = context.node_config.get("state-dir") or os.environ.get("FEDALIGN_STATE_DIR")
    return state_dir or Path(str(named or Path.home() / ".cache/fedalign/clients"))


@lru_cache(maxsize=2)
def built(cell: str) -> ClientWork:
    """The work of a cell, {"factory": dotted path, "arguments": [...]}, built in this process."""
    plain = json.loads(cell)
    wire.only_ours(plain)
    return _located(plain["factory"])(*plain["arguments"], os.environ.get("FEDALIGN_DEVICE"))


client = client_app()
server = ServerApp()


@server.main()
def play(grid: Grid, context: Context) -> None:
    """Play the run that the run config's `cell` describes, in JSON."""
    played(json.loads(str(context.run_config["cell"])), grid)


def played(cell: Mapping[str, Any], grid: Grid) -> None:
    """cell: {"play": dotted path, "config": ..., "folder": run folder, "environment": ...,
    "report": a file that will say how it ended, where its folder is on this machine}."""
    wire.only_ours(cell)
    error = "the run was stopped"
    try:
        with joined(grid):
            _located(cell["play"])(cell["config"], Path(cell["folder"]), cell["environment"])
        error = ""
    except FedalignError as problem:
        error = str(problem)
        raise
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        if "report" in cell:
            told, path = json.dumps({"error": error}), Path(cell["report"])
            print(REPORT + told, flush=True)
            if path.parent.is_dir():
                path.write_text(told)


def _located(target: str) -> Callable[..., Any]:
    wire.trusted(target)
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


class LocalGrid(Grid):
    """A grid whose nodes are numbers 1 .. nodes and whose ClientApp runs in this process.

    An exception of a ClientApp becomes an error reply, as on Flower's own engines.
    """

    def __init__(self, app: ClientApp, nodes: int):
        """nodes: SuperNodes (>= 1); each has its own context, which lasts."""
        if nodes < 1:
            raise ConfigError(f"runtime.nodes must be 1 or more, got {nodes}.")
        _name_this_process()
        self._app, self._run = app, Run.create_empty(run_id=1)
        self._replies: dict[str, Message] = {}
        self._contexts = {
            i + 1: Context(
                run_id=1,
                node_id=i + 1,
                node_config={"partition-id": i, "num-partitions": nodes},
                state=RecordDict(),
                run_config={},
            )
            for i in range(nodes)
        }

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Every message is answered before this returns."""
        names = []
        for message in messages:
            name = uuid4().hex
            message.metadata.__dict__["_message_id"] = name
            try:
                reply = self._app(message, self._contexts[message.metadata.dst_node_id])
            except Exception as error:
                why = Error(CRASHED, f"{type(error).__name__}: {error}")
                reply = Message(why, reply_to=message)
            reply.metadata.__dict__["_message_id"] = uuid4().hex
            self._replies[name] = reply
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(name) for name in list(message_ids) if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))


def run_local(server_app: ServerApp, client_app: ClientApp, nodes: int) -> None:
    """Run any pair of Flower apps in this process: no Ray, no SuperLink."""
    grid = LocalGrid(client_app, nodes)
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    server_app(grid, context)


def simulated(cell: Mapping[str, Any], nodes: int, cpus: float, gpus: float) -> None:
    """The run of `cell` on Flower's Ray simulation, with `client` on `nodes` SuperNodes.

    cpus, gpus: of one actor; as many actors run as this machine holds, at most `nodes`.
    """
    from flwr.simulation import run_simulation

    moved = ServerApp()

    @moved.main()
    def main(grid: Grid, context: Context) -> None:
        played(cell, grid)

    run_simulation(
        server_app=moved,
        client_app=client,
        num_supernodes=nodes,
        backend_config={
            "client_resources": {"num_cpus": cpus, "num_gpus": gpus},
            "init_args": {
                "include_dashboard": False,
                "num_cpus": max(1, min(ceil(nodes * cpus), os.cpu_count() or 1)),
                "logging_level": "error",
                "log_to_driver": False,
            },
        },
    )


def _name_this_process() -> None:
    """Flower refuses messages of a process without a task identity; its engines set one."""
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("task_id", "run_id", "node_id"):
        try:
            getattr(TaskIdentity, name)
        except RuntimeError:
            setattr(TaskIdentity, name, 1)
