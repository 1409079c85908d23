"""Small federations for tests: real data, real training, a handful of clients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from consensus.none import NoConsensus
from fedalign.algorithms.fedavg import FedAvg
from fedalign.core.contracts import Aggregate, ClientTask, Context, Defense, Work
from fedalign.core.seeds import Seeds
from fedalign.core.threat import Crafted, Knowledge, View
from fedalign.data.digits import Digits
from fedalign.data.partition.iid import Iid
from fedalign.federation.parts import Federation, Schedule
from fedalign.federation.runtimes.client_work import ClientWork, Site
from fedalign.federation.runtimes.inline import Inline
from fedalign.federation.sampling import Sampling
from fedalign.models.softmax import Softmax
from fedalign.training.sgd import Sgd
from fedalign.workloads.classification import Classification, Holdings
from incentives.none import Unpaid


@dataclass(frozen=True)
class Mean(Defense):
    """The plain mean, without the shortcuts of defenses/."""

    def __call__(self, updates: torch.Tensor, context: Context = Context()) -> Aggregate:
        return Aggregate.mean(updates, torch.ones(len(updates), dtype=torch.bool))


@dataclass(frozen=True)
class Honest:
    """Send what was trained."""

    knowledge = Knowledge.OWN

    def __call__(self, view: View) -> Crafted:
        return Crafted(view.own)


def workload(
    clients=6,
    partition=None,
    model=None,
    batching="loop",
    attackers=(),
    attack=None,
    limit=180,
    lr=0.3,
) -> Classification:
    """Digits over a few clients, 30 samples each by default."""
    holdings = Holdings(partition or Iid(), clients, attackers, attack)
    return Classification(
        Digits(limit=limit).load(), holdings, model or Softmax(), Sgd(lr=lr), Seeds(0), batching
    )


def tasks(workload, clients, round=1, work=None, vector=None) -> list[ClientTask]:
    """One training task per client."""
    vector = workload.initial() if vector is None else vector
    return [ClientTask("train", c, round, vector, work or Work(2)) for c in clients]


def federation(attack=None, defense=None, attackers=(), schedule=None, **keys) -> Federation:
    """A flat inline federation; keys: of `workload`, and participation, failure_rate, algorithm."""
    incentive = keys.pop("incentive", Unpaid())
    participation, failure = keys.pop("participation", 1.0), keys.pop("failure_rate", 0.0)
    algorithm = keys.pop("algorithm", FedAvg())
    poisons = attack if hasattr(attack, "poison") else None
    world = workload(attackers=attackers, attack=poisons, **keys)
    work = ClientWork(world, algorithm, Seeds(0), failure)
    return Federation(
        workload=world,
        algorithm=algorithm,
        runtime=Inline(Site(work, lambda device: work, block=4)),
        sampling=Sampling(keys.get("clients", 6), participation, attackers),
        attack=attack or Honest(),
        defense=defense or Mean(),
        seeds=Seeds(0),
        secret=b"secret",
        incentive=incentive,
        consensus=NoConsensus(),
        work=Work(1),
        schedule=schedule or Schedule(),
    )
