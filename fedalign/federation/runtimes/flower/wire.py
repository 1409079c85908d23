"""What travels between ServerApp and ClientApp: tensors as ArrayRecords, plain data as text.

Never a pickle. A workload travels as the constructor arguments of its cell: the client builds
it again from objects of fedalign's own packages and of no others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from torch import Tensor

from fedalign.core.contracts import ClientTask, Updates, Work
from fedalign.core.errors import IntegrityError


@dataclass(frozen=True)
class Order:
    """Blocks of tasks for one node. sizes: of the blocks, in order. cell: constructor arguments as JSON. run: this run's folder
    name at the nodes. turn: counts orders, a version of memory. versions: per task the version to
    continue from (None: no memory yet) and the one that the last checkpoint names."""

    tasks: Sequence[ClientTask]
    sizes: Sequence[int]
    cell: str
    run: str
    turn: int
    versions: Sequence[tuple[int | None, int | None]]


@dataclass(frozen=True)
class Answer:
    """What a node sends back. kept: clients whose memory is now at this turn. node: the number of
    the node, 0 .. nodes - 1."""

    updates: Updates
    kept: Sequence[int]
    node: int


def order(content: Order, node_id: int) -> Message:
    """An order as a message of type train."""
    tensors, lines = _Tensors(), []
    for task, versions in zip(content.tasks, content.versions, strict=True):
        lines.append({
            "step": task.step, "client": task.client, "round": task.round, "edge": task.edge,
            "poisoned": task.poisoned, "epochs": task.work.epochs, "steps": task.work.steps,
            "vector": tensors.place(task.vector), "versions": versions,
            "extra": {name: tensors.place(value) for name, value in task.extra.items()},
        })  # fmt: skip
    plain = {
        "tasks": lines,
        "sizes": list(content.sizes),
        "run": content.run,
        "turn": content.turn,
        "types": tensors.types,
    }
    record = RecordDict({
        "arrays": ArrayRecord(tensors.arrays),
        "config": ConfigRecord({"cell": content.cell, "order": json.dumps(plain)}),
    })  # fmt: skip
    group = str(content.tasks[0].round)
    return Message(record, node_id, MessageType.TRAIN, group_id=group)


def read_order(message: Message) -> Order:
    """The inverse of `order`."""
    config = message.content["config"]
    plain = json.loads(config["order"])
    tensors = _read(message.content["arrays"], plain["types"])
    tasks = [
        ClientTask(
            line["step"], line["client"], line["round"], tensors[line["vector"]],
            Work(line["epochs"], line["steps"]), line["edge"], line["poisoned"],
            {name: tensors[place] for name, place in line["extra"].items()},
        )
        for line in plain["tasks"]
    ]  # fmt: skip
    versions = [tuple(line["versions"]) for line in plain["tasks"]]
    return Order(tasks, plain["sizes"], config["cell"], plain["run"], plain["turn"], versions)


def answer(content: Answer, to: Message) -> Message:
    """An answer as the reply to its order."""
    tensors, updates = _Tensors(), content.updates
    named = {name: value for name in _FIELDS if (value := getattr(updates, name)) is not None}
    places = {name: tensors.place(value) for name, value in named.items()}
    metrics = {name: tensors.place(value) for name, value in updates.metrics.items()}
    plain = {
        "places": places, "metrics": metrics, "types": tensors.types, "node": content.node,
        "failed": [[client, why] for client, why in updates.failed.items()],
        "kept": list(content.kept),
    }  # fmt: skip
    record = RecordDict({
        "arrays": ArrayRecord(tensors.arrays),
        "config": ConfigRecord({"answer": json.dumps(plain)}),
    })  # fmt: skip
    return Message(record, reply_to=to)


def read_answer(message: Message, tasks: Sequence[ClientTask]) -> Answer:
    """The inverse of `answer`; IntegrityError where it is none to these tasks."""
    try:
        plain = json.loads(message.content["config"]["answer"])
        tensors = _read(message.content["arrays"], plain["types"])
        fields = {name: tensors[place] for name, place in plain["places"].items()}
        metrics = {name: tensors[place] for name, place in plain["metrics"].items()}
        failed = {int(client): str(why) for client, why in plain["failed"]}
        updates = Updates(**fields, metrics=metrics, failed=failed)
        result = Answer(updates, [int(c) for c in plain["kept"]], int(plain["node"]))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"an unreadable answer ({type(error).__name__}: {error})") from error
    _check(updates, tasks)
    return result


def question(node_id: int) -> Message:
    """Asks a node for its number."""
    record = RecordDict({"config": ConfigRecord({"asked": "number"})})
    return Message(record, node_id, MessageType.QUERY)


def introduction(node: int, to: Message) -> Message:
    """A node's answer to `question`."""
    return Message(RecordDict({"config": ConfigRecord({"node": node})}), reply_to=to)


def number(message: Message) -> int:
    """What an `introduction` says."""
    return int(message.content["config"]["node"])


_FIELDS = ("clients", "rows", "samples", "ready_s", "mask")


def _check(updates: Updates, tasks: Sequence[ClientTask]) -> None:
    """Rows of the model's width, one per answered client, in the order of the tasks."""
    asked = [task.client for task in tasks if task.client not in updates.failed]
    if updates.clients.tolist() != asked:
        raise IntegrityError(
            f"answers of clients {updates.clients.tolist()}, asked were {asked} in this order"
        )
    wanted = (len(asked), tasks[0].vector.numel())
    if tuple(updates.rows.shape) != wanted and tasks[0].step == "train":
        raise IntegrityError(f"rows of shape {tuple(updates.rows.shape)}, expected {wanted}")
    for name, values in {"samples": updates.samples, **updates.metrics}.items():
        if len(values) != len(asked):
            raise IntegrityError(f"{len(values)} values of {name} for {len(asked)} rows")


class _Tensors:
    """Each tensor once, however many tasks point to it; NumPy has no bfloat16, so its bits go."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.types: dict[str, str] = {}
        self._places: dict[int, str] = {}

    def place(self, tensor: Tensor) -> str:
        name = self._places.get(id(tensor))
        if name is None:
            name = self._places[id(tensor)] = str(len(self.arrays))
            plain = tensor.detach().cpu().contiguous()
            if plain.dtype == torch.bfloat16:
                self.types[name], plain = "bfloat16", plain.view(torch.int16)
            self.arrays[name] = Array(plain.numpy())
        return name


def _read(record: ArrayRecord, types: Mapping[str, str]) -> dict[str, Tensor]:
    tensors = {}
    for name, array in record.items():
        tensor = torch.from_numpy(np.array(array.numpy()))
        tensors[name] = tensor.view(torch.bfloat16) if name in types else tensor
    return tensors


PACKAGES = ("fedalign", "attacks", "defenses", "consensus", "incentives", "experiments")


def only_ours(cell: Any) -> None:
    """IntegrityError where a cell from the network names an object that is not fedalign's."""
    if isinstance(cell, Mapping):
        for key, value in cell.items():
            if key in ("_target_", "factory", "play"):
                trusted(str(value))
            only_ours(value)
    elif isinstance(cell, list):
        for value in cell:
            only_ours(value)


def trusted(target: str) -> None:
    """IntegrityError where a dotted path leads out of fedalign's own packages."""
    if target.split(".")[0] not in PACKAGES or not all(p.isidentifier() for p in target.split(".")):
        raise IntegrityError(
            f"This node builds objects of {', '.join(PACKAGES)} alone; it was asked for {target!r}."
        )
