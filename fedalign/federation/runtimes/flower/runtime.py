"""The `Flower` runtime: blocks of clients as messages to SuperNodes.

A block goes to one node. Clients with a memory stay with the node that holds it; all others are
dealt in turn. What a node does not answer, or answers wrongly, costs its clients their round and
nobody else's.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fedalign.core import memory
from fedalign.core.contracts import ClientTask, Updates
from fedalign.core.errors import ConfigError, IntegrityError
from fedalign.federation.runtimes.client_work import (
    Site,
    cut,
    enough,
    nobody,
)
from fedalign.federation.runtimes.flower.asked import absent, check, count
from fedalign.federation.runtimes.flower.joined import present
from fedalign.federation.runtimes.flower.shelf import Held, HeldShelf


@dataclass(frozen=True)
class _Piece:
    """What one node gets of a block: which tasks, by their place in it."""

    block: int
    places: Sequence[int]
    tasks: Sequence[ClientTask]
    node: int


class Flower:
    """mode: local (this process), ray (Flower's simulation) or deploy (SuperLink and SuperNodes).

    nodes: SuperNodes (>= 1); null: 1 under local, else 2. timeout_s: seconds (> 0) after which a
    round goes on without those that have not answered; null waits. quorum: share of the asked
    clients, in [0, 1], below which the run stops with QuorumLostError. state_dir: where nodes keep
    client memories; null: under local this process, of which checkpoints hold a copy; under ray and
    deploy `clients` in the run folder, until the run is done. cpus, gpus: of one client process
    under Ray (> 0, >= 0); below 1 they share a device, above they are whole. secure: TLS and
    SuperNode key authentication under deploy. start_s: seconds (> 0) to wait for the nodes.
    superlink: "host:port" of a SuperLink that is there already, under deploy; the SuperNodes
    connected to it do the work, and its machine plays the rounds. root_certificates: file that TLS
    of that SuperLink is checked with; null speaks to it without TLS.
    """

    def __init__(
        self,
        site: Site,
        mode: str = "local",
        nodes: int | None = None,
        timeout_s: float | None = None,
        quorum: float = 0.0,
        state_dir: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        secure: bool = False,
        start_s: float = 120.0,
        superlink: str | None = None,
        root_certificates: str | None = None,
    ):
        nodes = count(mode, nodes)
        check(mode, nodes, timeout_s, quorum)
        self._block, self._timeout_s, self._quorum = site.block, timeout_s, quorum
        self._nodes, self._start_s = nodes, start_s
        self._own: Held | None = None  # memories in this process, which checkpoints copy
        self._state = Path(state_dir) if state_dir and mode == "local" else None
        self._cell, self._window = "", 1
        self._together = site.together
        self._grid = present()
        if self._grid is not None:
            self._cell, self._window = _cell(site), 1_000_000
        elif mode == "local":
            self._grid = self._local(site, nodes)
        else:
            raise ConfigError(
                f"runtime.mode={mode} runs inside Flower's ServerApp: start it with "
                "`python run_experiment.py runtime=flower ...`, not by building it here."
            )
        self._run, self._turn = secrets.token_hex(8), 0
        self._versions: dict[int, int] = {}  # client -> turn of its last memory
        self._saved: dict[int, int] = {}  # the same at the last checkpoint
        self._homes: dict[int, int] = {}  # client -> number of the node that holds its memory
        self._ids: dict[int, int] = {}  # number of a node -> its id on the grid

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[Updates]:
        """Blocks in task order."""
        blocks, given = list(cut(tasks, self._block)), []
        self._turn += 1
        for start in range(0, len(blocks), self._window):
            window, ids = blocks[start : start + self._window], self._addresses()
            pieces = [p for i, b in enumerate(window) for p in self._cut(start + i, b, sorted(ids))]
            answers = self._exchange(pieces, ids)
            given += answers
            for i, block in enumerate(window):
                parts = [
                    (p, a) for p, a in zip(pieces, answers, strict=True) if p.block == start + i
                ]
                yield _join(block, parts)
        enough(given, tasks, self._quorum)

    def save(self, folder: Path) -> None:
        """Which version of each memory belongs to this checkpoint; the memories too, where they
        lie in a folder of this process."""
        if self._own is not None:
            shelves = {c: self._shelf(c).read(c, self._versions[c]) for c in self._versions}
            memory.write(folder / "clients.safetensors", shelves, durable=True)
            return
        kept = {"run": self._run, "turn": self._turn, "versions": self._versions}
        memory.write(folder / "flower.safetensors", {**kept, "homes": self._homes}, durable=True)
        self._saved = dict(self._versions)

    def load(self, folder: Path) -> None:
        if (folder / "flower.safetensors").is_file():
            kept = memory.read(folder / "flower.safetensors")
            self._run, self._turn = kept["run"], kept["turn"]
            self._versions, self._homes = dict(kept["versions"]), dict(kept["homes"])
            self._saved = dict(self._versions)
            return
        memories = memory.read(folder / "clients.safetensors")
        if memories and self._own is None:
            raise ConfigError(
                "This run was begun with its client memories in one process; they cannot move to "
                "nodes: continue it with the runtime it was begun with, or take reuse=none."
            )
        for client, content in memories.items():
            self._homes[client], self._versions[client] = client % self._nodes, 0
            self._shelf(client).write(client, 0, content, ())

    def close(self) -> None:
        """Nothing to end: an engine ends with the process around it."""

    def _local(self, site: Site, nodes: int) -> Any:
        try:
            from fedalign.federation.runtimes.flower.apps import LocalGrid, client_app
        except ImportError as error:
            raise ConfigError(absent("flwr", "flwr>=1.41,<1.43")) from error
        if self._state is None:
            self._own = Held()
        return LocalGrid(client_app(site.work, self._state or self._own), nodes)

    def _shelf(self, client: int) -> HeldShelf:
        return self._own.shelf(self._run, self._homes[client])

    def _cut(self, index: int, block: Sequence[ClientTask], there: Sequence[int]) -> list[_Piece]:
        """One piece where all memories of a block lie on one node (the rule), else one per node;
        clients without a memory go to the nodes that are there, in turn."""
        homes = [self._homes.get(task.client) for task in block]
        known = sorted({home for home in homes if home is not None})
        turns = there or range(self._nodes)
        free = known[0] if known else turns[index % len(turns)]
        if len(known) > 1 and self._together:
            raise ConfigError(
                "Clients of one block are trained together (batching=vmap), but their memories "
                f"lie on {len(known)} SuperNodes: take batching=loop, participation=1 or "
                "runtime.nodes=1."
            )
        chosen = [free if home is None else home for home in homes]
        pieces = []
        for node in known or [free]:
            places = [i for i, home in enumerate(chosen) if home == node]
            pieces.append(_Piece(index, places, [block[i] for i in places], node))
        return pieces

    def _exchange(self, pieces: Sequence[_Piece], ids: Mapping[int, int]) -> list[Updates]:
        """One message to each node, with all its pieces; wait for the answers. A piece without one
        has no rows, but reasons. ids: number of a node -> its id, of those connected now."""
        began, answers = time.monotonic(), {}
        waiting: dict[str, list[int]] = {}
        for node in sorted({piece.node for piece in pieces}):
            mine = [index for index, piece in enumerate(pieces) if piece.node == node]
            name = self._send([pieces[index] for index in mine], ids[node]) if node in ids else None
            if name is None:
                why = "takes no messages" if node in ids else "is not connected"
                answers |= {index: _lost(pieces[index], why) for index in mine}
            else:
                waiting[name] = mine
        pause_s, limit_s = 0.005, self._timeout_s or float("inf")
        while waiting:
            for message in self._grid.pull_messages(list(waiting)):
                mine = waiting.pop(message.metadata.reply_to_message_id, [])
                told = self._read(message, [pieces[index] for index in mine])
                answers |= dict(zip(mine, told, strict=True))
            if waiting and time.monotonic() - began >= limit_s:
                why = f"gave no answer within {limit_s:g} s"
                answers |= {i: _lost(pieces[i], why) for mine in waiting.values() for i in mine}
                break
            if waiting:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 0.2)
        return [answers[index] for index in range(len(pieces))]

    def _send(self, pieces: Sequence[_Piece], node_id: int) -> str | None:
        """The message's name, or None where the grid does not take it."""
        from fedalign.federation.runtimes.flower import wire

        tasks = [task for piece in pieces for task in piece.tasks]
        versions = [(self._versions.get(t.client), self._saved.get(t.client)) for t in tasks]
        sizes = [len(piece.tasks) for piece in pieces]
        order = wire.Order(tasks, sizes, self._cell, self._run, self._turn, versions)
        names = list(self._grid.push_messages([wire.order(order, node_id)]))
        return names[0] if names else None

    def _read(self, message: Any, pieces: Sequence[_Piece]) -> list[Updates]:
        """The answer of a node, piece by piece."""
        from fedalign.federation.runtimes.flower import wire

        if message.has_error():
            why = f"answered with an error: {_first_line(message.error.reason)}"
            return [_lost(piece, why) for piece in pieces]
        tasks = [task for piece in pieces for task in piece.tasks]
        try:
            answer = wire.read_answer(message, tasks)
        except IntegrityError as error:
            return [_lost(piece, f"sent {error}") for piece in pieces]
        self._ids[answer.node] = message.metadata.src_node_id
        for client in {task.client for task in tasks}.intersection(answer.kept):
            self._versions[client], self._homes[client] = self._turn, answer.node
        return [_share(answer.updates, piece) for piece in pieces]

    def _addresses(self) -> dict[int, int]:
        """Number of a node -> its id, for the nodes that are connected now. Nodes are asked for
        their numbers before the first round and where memories wait for one that is gone; every
        answer tells them too."""
        deadline = time.monotonic() + self._start_s
        while len(there := sorted(self._grid.get_node_ids())) < self._nodes:
            if self._ids or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        new = [i for i in there if i not in self._ids.values()]
        missing = {n for n in self._homes.values() if self._ids.get(n) not in there}
        if new and (missing or not self._ids):
            self._ids |= self._introduced(new)
        known = {number: i for number, i in self._ids.items() if i in there}
        free = iter([i for i in there if i not in known.values()])
        for number in range(self._nodes):
            if number not in known and number not in missing and (i := next(free, None)):
                known[number] = i
        return dict(sorted(known.items()))  # who answered first deals nothing

    def _introduced(self, ids: Sequence[int]) -> dict[int, int]:
        """Ask nodes for their numbers; one that gives none stays unknown."""
        from fedalign.federation.runtimes.flower import wire

        asked = list(self._grid.push_messages([wire.question(i) for i in ids]))
        deadline, numbers = time.monotonic() + self._start_s, {}
        while asked and time.monotonic() < deadline:
            for message in self._grid.pull_messages(asked):
                asked.remove(message.metadata.reply_to_message_id)
                if not message.has_error():
                    numbers[wire.number(message)] = message.metadata.src_node_id
            time.sleep(0.05)
        return numbers


def _cell(site: Site) -> str:
    """Constructor arguments of a site's work, as JSON."""
    made = site.factory
    if not isinstance(made, partial) or made.keywords:
        raise ConfigError(
            "Flower sends constructor arguments, not objects: give Site.factory as "
            "functools.partial(function, plain data)."
        )
    name = f"{made.func.__module__}.{made.func.__qualname__}"
    return json.dumps({"factory": name, "arguments": list(made.args)}, sort_keys=True)


def _lost(piece: _Piece, why: str) -> Updates:
    reason = f"SuperNode {piece.node} {why}"
    return nobody(piece.tasks, {task.client: reason for task in piece.tasks})


def _share(updates: Updates, piece: _Piece) -> Updates:
    """The rows and reasons of one piece, in the order of its tasks."""
    place = {client: i for i, client in enumerate(updates.clients.tolist())}
    rows = [place[task.client] for task in piece.tasks if task.client in place]
    mine = {task.client for task in piece.tasks}
    failed = {client: why for client, why in updates.failed.items() if client in mine}
    return replace(_taken(updates, rows), failed=failed)


def _join(block: Sequence[ClientTask], parts: Sequence[tuple[_Piece, Updates]]) -> Updates:
    """The rows of a block in task order."""
    if len(parts) == 1:
        return parts[0][1]
    whole = Updates.concatenate([updates for _, updates in parts])
    place = {task.client: i for i, task in enumerate(block)}
    clients = whole.clients.tolist()
    return _taken(whole, sorted(range(len(clients)), key=lambda i: place[clients[i]]))


def _taken(updates: Updates, rows: Sequence[int]) -> Updates:
    if list(rows) == list(range(len(updates.clients))):
        return updates
    keep = torch.tensor(rows, dtype=torch.int64)
    named = ("clients", "rows", "samples", "ready_s", "mask")
    cut = {n: None if (v := getattr(updates, n)) is None else v[keep] for n in named}
    return replace(updates, **cut, metrics={n: v[keep] for n, v in updates.metrics.items()})


def _first_line(text: str | None) -> str:
    """The telling line of a reason, without a trace."""
    lines = [line.strip() for line in (text or "no reason given").splitlines() if line.strip()]
    return lines[0][:300]
