"""Algorithms, by hand and against torch's own optimisers."""

import pytest
import torch

from fedalign.algorithms.client_momentum import ClientMomentum
from fedalign.algorithms.fedavg import FedAvg
from fedalign.algorithms.fedopt import FedOpt
from fedalign.algorithms.fedprox import FedProx
from fedalign.core.contracts import Aggregate
from fedalign.core.errors import ConfigError
from tests.worlds import tasks, workload


def _aggregate(*values):
    return Aggregate(torch.tensor(values), torch.ones(1, dtype=torch.bool))


def test_fedavg_adds_the_aggregate():
    model, _ = FedAvg(server_lr=0.5).server_step(
        None, torch.tensor([1.0, 2.0]), _aggregate(2.0, -2.0), {}
    )
    assert model.tolist() == [2.0, 1.0]


def test_fedprox_with_mu_0_is_fedavg_and_a_large_mu_holds_clients_back():
    world = workload()
    rows = [
        algorithm.client_step(world, tasks(world, range(3)), [{}] * 3)[0].rows
        for algorithm in (FedAvg(), FedProx(mu=0.0), FedProx(mu=1.0))
    ]
    assert torch.equal(rows[0], rows[1])
    assert (rows[2].norm(dim=1) < 0.9 * rows[0].norm(dim=1)).all()


def test_fedopt_adam_first_step_by_hand():
    """m = 0.1 d, v = 0.99 tau^2 + 0.01 d^2 with d = 1, tau = 1e-3: v = 0.01000099,
    step = 0.03 * 0.1 / (0.100005 + 0.001) = 0.0297018."""
    model, memory = FedOpt().server_step(None, torch.zeros(1), _aggregate(1.0), {})
    assert model.item() == pytest.approx(0.03 * 0.1 / (0.01000099**0.5 + 1e-3), rel=1e-5)
    assert memory["first"].item() == pytest.approx(0.1)


def test_fedopt_yogi_and_adagrad_second_moments_by_hand():
    """d = 2, v0 = 1: adagrad v = 1 + 4 = 5; yogi v = 1 - 0.01 * 4 * sign(1 - 4) = 1.04."""
    for optimizer, second in (("adagrad", 5.0), ("yogi", 1.04)):
        _, memory = FedOpt(optimizer=optimizer, tau=1.0).server_step(
            None, torch.zeros(1), _aggregate(2.0), {}
        )
        assert memory["second"].item() == pytest.approx(second)


def test_client_momentum_is_a_running_mean_of_a_clients_own_updates():
    world, algorithm = workload(), ClientMomentum(beta=0.75)
    first, memories = algorithm.client_step(world, tasks(world, [1, 2]), [{}, {}])
    plain, _ = FedAvg().client_step(world, tasks(world, [1, 2], round=2), [{}, {}])
    second, _ = algorithm.client_step(world, tasks(world, [1, 2], round=2), memories)
    assert torch.allclose(second.rows, 0.75 * first.rows + 0.25 * plain.rows, atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedAvg(0),
        lambda: FedProx(mu=-1),
        lambda: FedOpt(optimizer="sgd"),
        lambda: FedOpt(beta1=1.0),
        lambda: ClientMomentum(beta=1.0),
    ],
)
def test_out_of_range_is_refused(make):
    with pytest.raises(ConfigError, match="must"):
        make()
