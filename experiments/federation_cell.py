"""One cell of a study: build a federation from a config, play its rounds, fill its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from experiments import kept, plan, resident, streamed
from experiments.build import build
from experiments.run_folder import RunFolder
from experiments.workload_cell import divided, workload
from fedalign.core.contracts import (
    Context,
    DataAttack,
    Defense,
    Runtime,
    Speaking,
    State,
    UpdateAttack,
    Work,
    require,
)
from fedalign.core.digest import of_tensor
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.core.threat import Knowledge, View
from fedalign.core.vectors import Layout
from fedalign.federation.hierarchy import sealed
from fedalign.federation.parts import Federation, Outcome, Schedule
from fedalign.federation.round import global_round
from fedalign.federation.runtimes import determinism, placement
from fedalign.federation.runtimes.client_work import ClientWork, Site, check_waiting
from fedalign.federation.runtimes.flower.engines import moved, refuse
from fedalign.federation.sampling import Sampling, choose_attackers
from fedalign.training import heap

Config = Mapping[str, Any]


def play(config: Config, folder: Path, environment: Mapping[str, Any]) -> None:
    """Run a cell to its end in `folder`, from its last checkpoint if there is one."""
    if plan.apart(config):
        from experiments import launcher  # it imports this

        return launcher.play(config, folder, environment)
    if moved(play, config, folder, environment):  # one of Flower's engines has played it
        return
    files = RunFolder(folder, config, environment)
    resident.reset()
    to_the_end(config, config, files, federation(config))


def to_the_end(config: Config, told: Config, files: RunFolder, parts: Federation) -> None:
    """All rounds that are left, and what remains of a run. told: the config its log begins with."""
    try:
        state = files.restore(parts.runtime)
        height = 0 if state is None else state.memory.get("chain", {}).get("height", 0)
        parts.consensus.open(files.path / "chain", height)
        if state is None:
            state = State(0, parts.workload.initial())
            _begin(files, told, parts)
        saved = monotonic()
        while state.round < config["rounds"]:
            state, outcome, metrics = global_round(parts, state)
            files.log.append("round", **_record(parts, state, outcome, metrics))
            last = state.round == config["rounds"]
            wanted = config["keep"] == "all" or (config["keep"] == "last" and last)
            if wanted and kept.complete(outcome):
                files.keep(state.round, kept.inputs(outcome))
            if not last and monotonic() - saved > config["checkpoint_s"]:
                files.save(state, parts.runtime)
                saved = monotonic()
    finally:
        parts.runtime.close()
    if isinstance(parts.workload, Speaking):
        files.speak(parts.workload.samples(state.model))
    closing = parts.consensus.close(sealed(state))
    files.log.append(
        "end",
        secret=parts.secret.hex(),
        model=of_tensor(state.model),
        closing=None if closing is None else closing.hash.hex(),
    )
    files.finish(state.model, parts.workload.layout)


def federation(config: Config) -> Federation:
    """All objects of a run."""
    seeds = Seeds(config["seed"])
    work = client_work(config)
    return Federation(
        workload=work.workload,
        algorithm=work.algorithm,
        runtime=_runtime(config, work),
        sampling=sampling(config),
        attack=build(config["attack"]),
        defense=plan.rule(config),
        seeds=seeds,
        secret=seeds.key("server_secret"),
        incentive=build(config["incentive"]),
        consensus=plan.consensus(config),
        work=Work(config["local_epochs"], config["local_steps"]),
        schedule=Schedule(config["attack_start"], config["attack_rounds"]),
        topology=build(config["topology"]),
        global_defense=build(config["global_defense"]),
        edge_attackers=plan.meeting(config).attackers,
        stragglers=build(config["stragglers"]),
        clock=build(config["clock"]),
    )


def client_work(config: Config, device: str | None = None) -> ClientWork:
    """Workload and algorithm; also what a worker process builds for its device."""
    torch.set_num_threads(config["threads"])
    heap.keep()
    determinism.fix(device or config["device"], config.get("deterministic", True))
    attack, attackers = build(config["attack"]), sampling(config).attackers
    made = workload(config, attackers, attack, device or config["device"])
    seeds = Seeds(config["seed"])
    algorithm = build(config["algorithm"])
    made = divided(made, algorithm)
    return ClientWork(made, algorithm, seeds, config["failure_rate"], config.get("jitter_s", 0.0))


def sampling(config: Config) -> Sampling:
    """Who attacks, and who takes part."""
    attackers: tuple[int, ...] = ()
    if config["attack_level"] == "client":
        rng = Seeds(config["seed"]).at("attackers")
        attackers = choose_attackers(config["clients"], config["byzantine_fraction"], rng)
    return Sampling(config["clients"], config["participation"], attackers)


def validate(config: Config) -> dict[str, Any]:
    """Everything that can be refused before training, refused; returns facts for the report."""
    who, rule = sampling(config), build(config["defense"])
    attack = build(config["attack"])
    if not isinstance(attack, UpdateAttack | DataAttack):
        raise ConfigError(f"{config['attack']['_target_']} is no attack.")
    for edge in edges(config):
        require(rule, edge.size, _assumed(rule, edge))
    streamed.refuse(config, rule, attack, len(who.attackers))
    plan.validate(config)
    refuse(config["runtime"], config["device"])
    if config["device"] == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no GPU here: take device=cpu.")
    if config["device"] not in ("cpu", "cuda"):
        raise ConfigError(f"device must be cpu or cuda, got {config['device']!r}.")
    check_waiting(config["runtime"].get("timeout_s"), config["runtime"].get("quorum", 0.0))
    placement.refuse(config["runtime"], _devices(config["device"]))
    for key in ("local_epochs", "local_steps"):
        if config[key] is not None and config[key] < 1:
            raise ConfigError(f"{key} must be 1 or more, got {config[key]}.")
    byzantine = len(who.attackers) or len(plan.meeting(config).attackers)
    return {"space": rule.space, "family": rule.family, "byzantine": byzantine}


def edges(config: Config) -> list[Sampling]:
    """The sampling of every edge; of a flat federation the study's own."""
    who = sampling(config)
    return [who.within(members) for members in build(config["topology"]).members(who.clients)]


def rehearse(config: Config, layout: Layout, attack: Any, rule: Defense) -> None:
    """One call of attack (if given) and rule on noise (n, d), so that they refuse what they must
    before any training; n and f are those of the edge with most attackers, or of the meeting of
    edges that attack."""
    rng = Seeds(0).at("rehearsal")
    who = max(edges(config), key=lambda edge: edge.byzantine_count)
    if streamed.streams(rule):
        who = Sampling(min(who.size, streamed.REHEARSED))
    if attack is not None and plan.meeting(config).attackers:
        who, rule = plan.meeting(config), build(config["global_defense"])
    rows = torch.from_numpy(rng.standard_normal((who.size, layout.size), dtype="float32"))
    context = Context(
        clients=torch.arange(who.size),
        weights=torch.ones(who.size, dtype=torch.float64),
        byzantine_count=who.byzantine_count,
        model=rows.mean(0),
        previous=rows[0],
        root_update=rows[-1],
        evaluate=lambda vector: {"accuracy": 0.5, "loss": float(vector[0])},
        layout=layout,
        rng=rng,
    )
    count = who.byzantine_count
    if attack is None:
        rule(rows, context)
    elif count and isinstance(attack, UpdateAttack):
        knows = attack.knowledge
        view = View(
            round=2,
            clients=who.size,
            own=rows[:count],
            model=rows.mean(0),
            initial=rows[0],
            poisoned=rows[:count] + 1,
            past=rows[0],
            space=rule.space,
            family=rule.family,
            benign=rows[count:] if Knowledge.UPDATES in knows else None,
            rule=rule if Knowledge.RULE in knows else None,
            context=replace(context, clients=None, weights=None)
            if Knowledge.RULE in knows
            else None,
            layout=layout,
            rng=rng,
        )
        attack(view)


def _assumed(rule: Defense, who: Sampling) -> int:
    own = getattr(rule, "byzantine_count", None)
    return who.byzantine_count if own is None else own


def _runtime(config: Config, work: ClientWork) -> Runtime:
    site = Site(
        work,
        partial(client_work, dict(config)),
        config["block"],
        _devices(config["device"]),
        config["threads"],
        config["batching"] == "vmap",
    )
    return build(config["runtime"], site=site)


def _devices(kind: str) -> list[str]:
    if kind == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [kind]


def _begin(files: RunFolder, config: Config, parts: Federation) -> None:
    files.log.append(
        "begin",
        config=dict(config),
        secret_sha256=hashlib.sha256(parts.secret).hexdigest(),
        attackers=list(parts.sampling.attackers),
        data=parts.workload.source,
        parameters=parts.workload.layout.size,
        model=of_tensor(parts.workload.initial()),
    )


def _record(
    parts: Federation, state: State, outcome: Outcome, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """What the log says of a round."""
    updates, aggregate = outcome.updates, outcome.aggregate
    lying = torch.isin(updates.clients, torch.tensor(parts.sampling.attackers, dtype=torch.int64))
    coefficients, payments = aggregate.coefficients, outcome.payments
    return {
        "round": state.round,
        "model": of_tensor(state.model),
        "aggregate": of_tensor(aggregate.vector),
        "metrics": {key: _plain(value) for key, value in metrics.items()},
        "attacked": outcome.attacked,
        "skipped": aggregate.skipped,
        "clients": updates.clients.tolist(),
        "attackers": updates.clients[lying].tolist(),
        "accepted": aggregate.accepted.int().tolist(),
        "coefficients": None if coefficients is None else coefficients.tolist(),
        "samples": updates.samples.tolist(),
        "bytes": updates.rows.shape[1] * updates.rows.element_size(),
        **_judged(parts, outcome),
        **streamed.record(outcome),
        "nonfinite": list(outcome.nonfinite),
        "missing": list(outcome.missing),
        "failed": dict(outcome.failed),
        "notes": dict(aggregate.notes),
        "byzantine_count": outcome.context.byzantine_count,
        "prices": {name: float(price) for name, price in outcome.offer.prices.items()},
        "effort": _listed(outcome.offer.effort),
        "payments": {
            "accounts": list(payments.accounts),
            "amounts": list(payments.amounts),
            "total": payments.total,
            "contributions": [_plain(float(c)) for c in payments.contributions],
            "notes": dict(payments.notes),
        },
        "certificate": dict(outcome.offer.certificate),
        "clock_s": state.clock_s,
        "joules": outcome.span.joules,
        "seconds": {name: round(value, 6) for name, value in outcome.seconds.items()},
        **({} if parts.topology.flat else plan.record(parts, outcome)),
    }


def _judged(parts: Federation, outcome: Outcome) -> dict[str, Any]:
    """How many rows of liars and others were sent and accepted, where the liars are."""
    seen, liars = outcome, parts.sampling.attackers
    if parts.edge_attackers and outcome.meeting is not None:
        seen, liars = outcome.meeting, parts.edge_attackers
    accepted, coefficients = seen.aggregate.accepted, seen.aggregate.coefficients
    lying = torch.isin(seen.updates.clients, torch.tensor(liars, dtype=torch.int64))
    dropped = sum(sender in liars for sender in seen.nonfinite)
    weight = float("nan")
    if coefficients is not None and float(coefficients.sum()) != 0:
        weight = float(coefficients[lying].sum() / coefficients.sum())
    counts = {
        "malicious_sent": int(lying.sum()) + dropped,
        "malicious_accepted": int(accepted[lying].sum()),
        "benign_sent": int((~lying).sum()) + len(seen.nonfinite) - dropped,
        "benign_accepted": int(accepted[~lying].sum()),
    }
    return {"counts": counts, "malicious_weight": _plain(weight)}


def _listed(values: torch.Tensor | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _plain(value: float) -> float | str:
    """Log and digest hold no bare NaN, which JSON does not know."""
    return value if value == value and abs(value) != float("inf") else str(value)
