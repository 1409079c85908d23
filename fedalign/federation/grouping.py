"""Grouping: all clients are asked which of several models fits them, and dealt out."""

from __future__ import annotations

from dataclasses import replace

from fedalign.core.contracts import ClientTask, State, Updates
from fedalign.core.personal import Grouping
from fedalign.federation.parts import Federation


def regrouped(parts: Federation, after: State) -> State:
    """The state after a round with new groups, where the algorithm draws them now."""
    algorithm = parts.algorithm
    if not isinstance(algorithm, Grouping) or not algorithm.regroups(after.round):
        return after
    tasks = [
        ClientTask("probe", client.id, after.round, after.model, parts.work)
        for client in parts.workload.clients
    ]
    probes = Updates.concatenate(list(parts.runtime.run(tasks)))
    if not len(probes.clients):
        return after  # nobody told anything: the groups stay
    known = algorithm.grouped(probes, after.memory.get("algorithm", {}))
    return replace(after, memory={**after.memory, "algorithm": known})
