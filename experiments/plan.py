"""Plan: the part of a federation above its clients, checked before training, told in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consensus.pofel.settings import tolerated
from experiments.build import build
from fedalign.algorithms.cluster import Cluster
from fedalign.algorithms.fed_biscuit import FedBiscuit
from fedalign.core.agreement import Consensus, SealedBlock, Verdict
from fedalign.core.contracts import Defense, UpdateAttack, require
from fedalign.core.digest import of_tensor
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.core.streams import StreamingDefense
from fedalign.core.threat import Knowledge
from fedalign.federation.parts import Federation, Outcome
from fedalign.federation.per_cluster import PerCluster
from fedalign.federation.sampling import Sampling, choose_attackers
from fedalign.federation.stragglers import Stragglers

Config = Mapping[str, Any]


def validate(config: Config) -> None:
    """Refuse what edges, stragglers and cold boots cannot do, in one sentence each."""
    topology, stragglers = build(config["topology"]), build(config["stragglers"])
    build(config["clock"])
    if config["attack_level"] not in ("client", "edge"):
        raise ConfigError(f"attack_level is client or edge, got {config['attack_level']!r}.")
    if config["attack_level"] == "edge":
        _lying_edges(config, topology.edges)
    if topology.edges > 1:
        liars = len(meeting(config).attackers)
        require(build(config["global_defense"]), topology.edges, liars, name="global_defense")
    elif stragglers.kind != "none" and stragglers.level == "edge":
        raise ConfigError(
            "stragglers.level=edge needs edge servers that can miss a round, but there is one "
            "edge: take topology=edges, or stragglers.level=device."
        )
    if topology.edges == 1 and config["consensus"]["_target_"] != "consensus.none.NoConsensus":
        raise ConfigError(
            "Servers can agree where there are several, but topology.edges=1: take topology=edges "
            "(4 or more for a chain that stands a lying server), or consensus=none."
        )
    made = consensus(config)
    if apart(config):
        _apart(config, made, stragglers)
    if isinstance(rule(config), PerCluster) and topology.edges > 1:
        raise ConfigError(
            "algorithm=cluster keeps the members of a cluster together at one server: take "
            "topology=flat."
        )
    paid = not config["incentive"]["_target_"].endswith(".Unpaid")
    if paid and topology.edge_rounds > 1:
        raise ConfigError(
            f"Incentives pay for what clients add to the global model, which "
            f"{topology.edge_rounds} edge rounds mix up: take topology.edge_rounds=1 or "
            "incentive=none."
        )
    if config["algorithm"].get("end", 0) > config["rounds"]:
        raise ConfigError(
            f"algorithm.end={config['algorithm']['end']} is never reached in {config['rounds']} "
            "rounds: lower it or raise rounds."
        )
    algorithm = build(config["algorithm"])
    if isinstance(algorithm, FedBiscuit) and config["rounds"] < algorithm.count * algorithm.warmup:
        raise ConfigError(
            f"algorithm=fed_biscuit warms up {algorithm.count} models for {algorithm.warmup} rounds "
            f"each, but rounds={config['rounds']}: lower algorithm.count or algorithm.warmup, or "
            "raise rounds."
        )
    _cold_boot(config, "defense", config["rounds"] * topology.edge_rounds)
    if topology.edges > 1:
        _cold_boot(config, "global_defense", config["rounds"])


def meeting(config: Config) -> Sampling:
    """The edges where their models meet, and which of them attack: none at attack_level=client."""
    edges, liars = build(config["topology"]).edges, ()
    if config["attack_level"] == "edge":
        rng = Seeds(config["seed"]).at("attackers", level="edge")
        liars = choose_attackers(edges, config["byzantine_fraction"], rng)
    return Sampling(edges, 1.0, liars)


def _lying_edges(config: Config, edges: int) -> None:
    if edges == 1:
        raise ConfigError(
            "attack_level=edge needs several edge servers, but topology.edges=1: take "
            "topology=edges."
        )
    if not isinstance(build(config["attack"]), UpdateAttack):
        raise ConfigError(
            "attack_level=edge needs an attack on updates: edge servers hold no data to poison."
        )


def rule(config: Config) -> Defense:
    """The rule that client updates meet at every edge; of clusters, per cluster."""
    made = build(config["defense"])
    if not isinstance(build(config["algorithm"]), Cluster):
        return made
    if isinstance(made, StreamingDefense):
        raise ConfigError(
            "algorithm=cluster applies the rule to each cluster's members, who are known once all "
            "have answered: take a rule that is no stream, such as fedavg."
        )
    return PerCluster(made)


def consensus(config: Config) -> Consensus:
    """The servers' protocol; where the config leaves servers and seed open, they are the edges and
    the run's seed."""
    node, edges = config["consensus"], build(config["topology"]).edges
    open_ = {"servers": edges, "seed": config["seed"]}
    filled = {key: value for key, value in open_.items() if key in node and node[key] is None}
    made: Consensus = build({**node, **filled, **_faults(config, node, edges)})
    servers = getattr(made, "servers", edges)
    if servers != edges:
        raise ConfigError(
            f"Every edge has one server on the chain, but consensus.servers={servers} and "
            f"topology.edges={edges}: leave consensus.servers open, or make both equal."
        )
    return made


def apart(config: Config) -> bool:
    """Whether every edge server is a process of its own, and this is none of them."""
    return config["consensus"].get("transport") == "processes" and "edge" not in config


def _apart(config: Config, made: Any, stragglers: Stragglers) -> None:
    """Refuse what edge servers that meet on the chain alone cannot do."""
    faults = [group.fault for group in made.faults]
    unable = {
        "consensus.down, cut, links and outages": bool(
            made.down or made.cut or made.links or made.outages
        ),
        "consensus=pofel_evm": config["consensus"]["_target_"].endswith(".PoFELOnEvm"),
        "clock": not config["clock"]["_target_"].endswith(".Untimed"),
        "stragglers.late of edge servers": stragglers.late and stragglers.level != "device",
        "edge servers that collude or see others' models (attack_level=edge)": _colludes(config),
        "an incentive": not config["incentive"]["_target_"].endswith(".Unpaid"),
        "a fault that knows all models": any(fault.omniscient for fault in faults),
    }
    why = [name for name, asked in unable.items() if asked]
    if why:
        raise ConfigError(
            f"consensus.transport=processes runs in real time, and an edge server knows its own "
            f"clients alone, so it cannot have {', '.join(why)}: leave that out, or take "
            "consensus.transport=simulated."
        )


def _colludes(config: Config) -> bool:
    """Whether lying edges craft from more than the model of one of them."""
    if config["attack_level"] != "edge":
        return False
    return len(meeting(config).attackers) > 1 or build(config["attack"]).knowledge != Knowledge.OWN


def _faults(config: Config, node: Config, edges: int) -> dict[str, Any]:
    """`fault` in `faulty_servers` of the chain's servers, drawn by the run's seed."""
    fault, count = config["fault"], config["faulty_servers"]
    if fault["_target_"] == "consensus.faults.honest.Honest":
        return {}
    if "faults" not in node:
        raise ConfigError(
            "A fault lies in a server of a chain, but this consensus has none: take "
            "consensus=pofel or another chain, or fault=none."
        )
    count = tolerated(edges, node["tolerates"]) if count is None else count
    if not 0 < count < edges:
        raise ConfigError(f"faulty_servers is 1 .. {edges - 1} of {edges} servers, got {count}.")
    drawn = Seeds(config["seed"]).at("attackers", level="server").permutation(edges)[:count]
    servers = sorted(int(server) for server in drawn)
    mine = {"_target_": "consensus.protocol.Faulty", "fault": fault, "servers": servers}
    return {"faults": [*node["faults"], mine]}


def _cold_boot(config: Config, key: str, rounds: int) -> None:
    boot = config[key].get("cold_boot_rounds")
    if boot is not None and boot > 2 and boot >= rounds:
        raise ConfigError(
            f"{key}.cold_boot_rounds={boot} is never over in {rounds} rounds: lower it (2 is "
            "enough for a slope) or raise rounds."
        )


def record(parts: Federation, outcome: Outcome) -> dict[str, Any]:
    """What the log says of the edges' last rounds and of their meeting."""
    told: dict[str, Any] = {"edges": {str(edge): _told(o) for edge, o in outcome.edges.items()}}
    if outcome.meeting is not None:
        told["meeting"] = _told(outcome.meeting)
    if outcome.verdict is not None and outcome.verdict.block is not None:
        block = _sealed(outcome.verdict, outcome.verdict.block)
        told["chain"] = {**block, "liars": liars(parts), "miners": _miners(parts)}
    return told


def liars(parts: Federation) -> list[int]:
    """Servers that lie: edges that attack, and those that a fault of the consensus names."""
    faulty = (
        server for group in getattr(parts.consensus, "faults", ()) for server in group.servers
    )
    return sorted({*parts.edge_attackers, *faulty})


def _miners(parts: Federation) -> int:
    """Servers that hash as long as a round lasts; the simulation charges that and does not burn it."""
    mines = getattr(getattr(parts.consensus, "ordering", None), "mines", False)
    return parts.consensus.servers if mines else 0


def _sealed(verdict: Verdict, block: SealedBlock) -> dict[str, Any]:
    """A block and what the servers did for it; servers are positions."""
    return {
        "height": block.height,
        "round": block.round,
        "hash": block.hash.hex(),
        "parent": block.parent.hex(),
        "root": block.root.hex(),
        "signers": list(block.signers),
        "leader": verdict.leader,
        "members": list(verdict.members),
        "votes": {str(voter): choice for voter, choice in verdict.votes.items()},
        "scores": {str(voter): score for voter, score in verdict.scores.items()},
        "rewards": {str(server): units for server, units in verdict.rewards.items()},
        "strikes": [list(strike) for strike in verdict.strikes],
        "aborted": verdict.aborted,
        **({"paused": list(verdict.paused)} if verdict.paused else {}),
        "costs": {phase: vars(cost) for phase, cost in verdict.costs.items()},
    }


def _told(outcome: Outcome) -> dict[str, Any]:
    aggregate = outcome.aggregate
    return {
        "clients": outcome.updates.clients.tolist(),
        "accepted": aggregate.accepted.int().tolist(),
        "aggregate": of_tensor(aggregate.vector),
        "start": of_tensor(outcome.context.model),
        "skipped": aggregate.skipped,
        "missing": list(outcome.missing),
        "notes": dict(aggregate.notes),
        "seconds": outcome.span.seconds,
    }
