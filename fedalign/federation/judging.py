"""What a new model is worth to each client, by its own data and values.

Source: fairness over clients by the index of Jain et al., "A Quantitative Measure of Fairness and
Discrimination for Resource Allocation in Shared Computer Systems", 1984.
"""

from __future__ import annotations

from fedalign.core.contracts import ClientTask, State, Updates
from fedalign.core.personal import Judged
from fedalign.federation.parts import Federation


def judged(parts: Federation, state: State) -> dict[str, float]:
    """Means over all clients of their metrics, the worst client's gain and Jain's index of their
    win rates; nothing where the workload does not ask its clients. state: after the round."""
    if not isinstance(parts.workload, Judged) or not parts.workload.judges:
        return {}
    tasks = [
        ClientTask("evaluate", client.id, state.round, state.model, parts.work)
        for client in parts.workload.clients
    ]
    tasks = parts.algorithm.assign(tasks, None, state.memory.get("algorithm", {}))
    found = Updates.concatenate(list(parts.runtime.run(tasks))).metrics
    means = {name: float(values.double().mean()) for name, values in found.items()}
    if "gold_gain_local" in found:
        means["gold_gain_worst"] = float(found["gold_gain_local"].min())
    if "win_rate_local" in found:
        wins = found["win_rate_local"].double()
        means["jain_local"] = float(wins.sum() ** 2 / (len(wins) * wins.square().sum()))
    return means
