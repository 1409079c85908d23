"""Recorder: a run's record from what its edge servers left: reports, sealed blocks and models.

It plays no part in the federation: every block is replayed and every aggregate decided once more
before it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from consensus.archive import Archive
from consensus.chain.store import ModelStore
from consensus.deployed import Observed, Seen
from consensus.pofel import payload
from experiments import edge, federation_cell
from experiments.run_folder import RunFolder
from fedalign.core import memory
from fedalign.core.agreement import Cost
from fedalign.core.contracts import ClientTask, State, Updates
from fedalign.core.errors import ConfigError, DataError
from fedalign.federation.edge import heard
from fedalign.federation.hierarchy import EdgeRun
from fedalign.federation.parts import Federation

INLINE = {"_target_": "fedalign.federation.runtimes.inline.Inline"}


class Recorder:
    """Reads what `count` edge servers leave below `folder`; also the runtime of a record, which
    asks it for nothing."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        self.heard: dict[int, Mapping[str, Any]] = {}

    def there(self, round: int) -> list[int]:
        """Edge servers whose report of a round is to be used. Raises DataError where none is."""
        found = [i for i in range(self.count) if self.path(i, round).exists()]
        if not found:
            raise DataError(
                f"No edge server below {self.folder} has told of round {round}: let the run end "
                "before it is recorded, and copy every edge server's folder here."
            )
        return found

    def reports(self, state: State) -> dict[int, EdgeRun]:
        """What the edge servers tell of the round behind `state`."""
        told = self.there(state.round + 1)
        self.heard = {i: memory.read(self.path(i, state.round + 1)) for i in told}
        return {i: heard(one["run"]) for i, one in self.heard.items() if one["run"] is not None}

    def seen(self, height: int) -> Seen:
        """What the last reports were about, as the chain has it."""
        homes = [self.folder / str(i) / "chain" for i in self.heard]
        blocks = [archive for home in homes if height in (archive := Archive(home)).heights()]
        models = partial(_model, [ModelStore(home / "models") for home in homes])
        return Seen(blocks[0].read(height), models, _costs(list(self.heard.values())))

    def words(self) -> Sequence[bytes]:
        """What the edge servers signed at the end."""
        return [one["word"] for one in self.heard.values() if one["word"] is not None]

    def path(self, index: int, round: int) -> Path:
        """Where an edge server's report of a round lies."""
        return edge.report_path(self.folder / str(index), round)

    def run(self, tasks: Sequence[ClientTask]) -> Iterator[Updates]:
        """Clients work for their edge servers, never for a recorder."""
        raise ConfigError(f"{len(tasks)} client tasks reached the recorder, which has no clients.")

    def save(self, folder: Path) -> None:
        """Edge servers keep checkpoints of their own."""

    def load(self, folder: Path) -> None:
        """And begin at them."""

    def close(self) -> None:
        """Nothing to end."""


def watching(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of whoever records: no clients, and a checkpoint behind every round."""
    return {**config, "runtime": INLINE, "checkpoint_s": 0}


def observed(parts: Federation, recorder: Recorder) -> Federation:
    """A federation that is not played here but heard of."""
    parts.runtime.close()
    consensus = Observed(parts.consensus, recorder.seen, recorder.words)
    return replace(
        parts, runtime=recorder, played=(), reports=recorder.reports, consensus=consensus
    )


def record(file: Path) -> Path:
    """The run's folder, made of what all edge servers of a plan left beside it."""
    plan, folder = edge.read(file), file.resolve().parent
    config, run = plan["config"], folder / "run"
    files = RunFolder(run, config, plan["environment"])
    parts = federation_cell.federation(watching(config))
    parts = observed(parts, Recorder(folder, parts.topology.edges))
    federation_cell.to_the_end(watching(config), config, files, parts)
    return run


def _model(stores: Sequence[ModelStore], root: bytes) -> np.ndarray:
    store = next((store for store in stores if root in store), None)
    if store is None:
        raise DataError(f"Nobody has the sealed model {root.hex()[:16]} any more.")
    return payload.from_bytes(store.get(root))[0]


def _costs(reports: Sequence[Mapping[str, Any]]) -> dict[str, Cost]:
    """What all servers together spent; phases last as long as for the slowest."""
    found: dict[str, Cost] = {}
    for report in reports:
        for phase, told in report["costs"].items():
            cost, before = Cost(**told), found.get(phase, Cost())
            longest = max(cost.latency_s, before.latency_s)
            found[phase] = replace(before + cost, latency_s=longest)
    return found
