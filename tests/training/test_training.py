"""The local loop: what a step does, and that batching changes the speed only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.partition.quantity import Quantity
from fedalign.models.lenet import Lenet
from fedalign.models.mlp import Mlp
from fedalign.models.resnet import Resnet
from fedalign.models.softmax import Softmax
from fedalign.training.flat import FlatModel
from fedalign.training.sgd import Sgd, batch_order
from tests.worlds import tasks, workload


@given(samples=st.integers(1, 200), batch=st.integers(1, 64), epochs=st.integers(1, 3))
def test_every_epoch_visits_every_sample_once(samples, batch, epochs):
    order, lengths = batch_order(samples, Work(epochs), batch, Seeds(0).at("x"))
    assert lengths.sum() == epochs * samples
    steps = len(lengths) // epochs
    for epoch in range(epochs):
        seen = [order[i, : lengths[i]] for i in range(epoch * steps, (epoch + 1) * steps)]
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(samples))


@given(samples=st.integers(1, 100), steps=st.integers(1, 30))
def test_steps_are_exactly_as_many_as_asked(samples, steps):
    order, lengths = batch_order(samples, Work(steps=steps), 16, Seeds(0).at("x"))
    assert len(order) == len(lengths) == steps and lengths.min() >= 1


def test_one_step_by_hand():
    """One sample x, label y, zero weights: softmax gives 1/10 everywhere, so the update of the
    bias is -lr (p - onehot(y)) = -0.5 * 0.1 = -0.05 for the others, 0.5 * 0.9 = 0.45 for y."""
    world = workload(clients=180, lr=0.5)
    zero = torch.zeros(world.layout.size)
    updates, _ = world.train(tasks(world, [0], work=Work(1), vector=zero), [{}])
    bias = world.layout.views(updates.rows[0])["1.bias"]
    label = int(np.argmax(world.clients[0].classes))
    assert bias[label].item() == pytest.approx(0.45, abs=1e-6)
    assert bias[(label + 1) % 10].item() == pytest.approx(-0.05, abs=1e-6)


@pytest.mark.parametrize("model", [Softmax(), Mlp((16,)), Resnet((8,), 1, 4)], ids=str)
def test_a_block_at_once_equals_one_after_the_other(model):
    """Ragged on purpose: clients hold 10 to about 70 samples. In float64, because a rounding that
    carries one ReLU input across zero may move a float32 row by 1e-3 (seen with the ResNet)."""
    worlds = [
        workload(model=model, partition=Quantity(0.5, 10), batching=b) for b in ("loop", "vmap")
    ]
    assert len({info.samples for info in worlds[0].clients}) > 3
    for world in worlds:
        world._pool = replace(world._pool, inputs=world._pool.inputs.double())
        world._flat = FlatModel(world._flat.module.double(), torch.device("cpu"))
    start = worlds[0].initial().double()
    rows = [w.train(tasks(w, range(6), vector=start), [{}] * 6)[0].rows for w in worlds]
    assert rows[0].dtype == torch.float64 and torch.allclose(*rows, rtol=0, atol=1e-10)
    assert rows[0].abs().max() > 1e-3


@pytest.mark.parametrize("batching", ["loop", "vmap"])
def test_momentum_weight_decay_and_correction_equal_torchs_own(batching):
    """torch.optim.SGD on the same batches, with mu (w - w0) added to the gradient."""
    world = workload(batching=batching)
    world._sgd = Sgd(lr=0.1, batch_size=8, momentum=0.9, weight_decay=0.01)
    start = world.initial()
    got, _ = world.train(tasks(world, [2]), [{}], lambda g, w, w0: g + 0.5 * (w - w0))
    order, lengths = batch_order(30, Work(2), 8, Seeds(0).at("batch_order", round=1, client=2))
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with torch.no_grad():
        for name, parameter in flat.named_parameters():
            parameter.copy_(world.layout.views(start)[name])
    before = [p.detach().clone() for p in flat.parameters()]
    optimizer = torch.optim.SGD(flat.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    own = world._rows[2, False]
    for rows, length in zip(order, lengths, strict=True):
        picked = torch.from_numpy(own[rows[:length]])
        optimizer.zero_grad()
        data = world._pool
        torch.nn.functional.cross_entropy(flat(data.inputs[picked]), data.labels[picked]).backward()
        for parameter, old in zip(flat.parameters(), before, strict=True):
            parameter.grad += 0.5 * (parameter.detach() - old)
        optimizer.step()
    expected = world.layout.flatten(dict(flat.named_parameters())) - start
    assert torch.allclose(got.rows[0], expected, atol=1e-6)


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(6)))
def test_a_clients_row_does_not_depend_on_its_neighbours_or_its_turn(order):
    world = workload()
    alone = world.train(tasks(world, [3]), [{}])[0].rows[0]
    together = world.train(tasks(world, order), [{}] * 6)[0].rows[order.index(3)]
    assert torch.equal(alone, together)


def test_lenet_takes_both_image_sizes_and_refuses_what_is_too_small():
    assert sum(p.numel() for p in Lenet().build((1, 28, 28), 10).parameters()) == 61_706
    assert sum(p.numel() for p in Lenet().build((3, 32, 32), 10).parameters()) == 62_006
    with pytest.raises(ConfigError, match=r"at least 12 x 12.*model=mlp"):
        Lenet().build((1, 8, 8), 10)


def test_no_model_keeps_running_statistics():
    for model in (Softmax(), Mlp(), Resnet()):
        assert not list(model.build((1, 8, 8), 10).buffers())


@pytest.mark.parametrize(
    "wrong", [{"lr": 0}, {"batch_size": 0}, {"momentum": 1.0}, {"weight_decay": -1}]
)
def test_out_of_range_is_refused_with_the_value(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name} must be .* got {value}"):
        Sgd(**wrong)
