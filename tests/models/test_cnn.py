"""The benchmark CNN: its size, its function, and dropout masks that belong to a client and round."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedalign.core.contracts import ClientTask, Dataset, Work
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.partition.iid import Iid
from fedalign.data.splits import Splits
from fedalign.models.cnn import Cnn
from fedalign.models.dropout import Dropout
from fedalign.training.sgd import Sgd
from fedalign.workloads.classification import Classification, Holdings


def world(model=None, clients=3, batching="loop", **sgd):
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.random((clients * 6, 3, 8, 8), dtype=np.float32))
    data = Dataset(inputs, torch.from_numpy(rng.integers(0, 4, clients * 6)), 4)
    splits = Splits(data, data.take(torch.arange(4)), data.take(torch.arange(9)), "random")
    model = model or Cnn(channels=(4, 6), hidden=8)
    sgd = {"lr": 0.1, "batch_size": 3, **sgd}
    holdings = Holdings(Iid(), clients)
    return Classification(splits, holdings, model, Sgd(**sgd), Seeds(0), batching)


def tasks(world, clients=(0, 1, 2), round=1):
    start = world.initial()
    return [ClientTask("train", c, round, start, Work(1)) for c in clients]


def test_on_cifar_images_it_has_the_benchmarks_size():
    """32 (3 9 + 1) + 64 (32 9 + 1) + 128 (64 14 14 + 1) + 10 (128 + 1) = 1,626,442."""
    model = Cnn().build((3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == 1_626_442


def test_it_computes_what_its_layers_say():
    """Pixels side by side change no value beyond rounding, nor a gradient."""
    mine = Cnn(channels=(4, 6), hidden=8).build((3, 8, 8), 4).eval()
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 4),
    )  # fmt: skip
    for ours, theirs in zip(mine.parameters(), plain.parameters(), strict=True):
        theirs.data = ours.data.clone()
    x, y = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0])
    assert torch.allclose(mine(x), plain(x), atol=1e-6)
    cross_entropy(mine(x), y).backward()
    cross_entropy(plain(x), y).backward()
    for ours, theirs in zip(mine.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_a_share_of_values_is_dropped_and_the_rest_scaled():
    """Rate 1/4 of 100,000 ones: the mean stays 1 within 4 standard deviations, values are 0 or 4/3."""
    layer = Dropout(0.25)
    layer.address(b"k" * 16)
    out = layer(torch.ones(100_000))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(4 / 3))}
    assert abs(float(out.double().mean()) - 1) < 4 * np.sqrt(1 / 3 / 100_000)
    assert torch.equal(layer.eval()(torch.ones(3)), torch.ones(3))


def test_masks_belong_to_client_and_round_whatever_the_company():
    """Alone, in another order, in a fresh process's model: the same row; another round another."""
    one = world()
    rows = one.train(tasks(one), [{}] * 3)[0].rows
    alone = world()
    assert torch.equal(alone.train(tasks(alone, [2]), [{}])[0].rows[0], rows[2])
    assert torch.equal(one.train(tasks(one, [1, 0]), [{}] * 2)[0].rows, rows[[1, 0]])
    undropped = world(Cnn(channels=(4, 6), hidden=8, dropout=(0.0, 0.0)))
    assert not torch.equal(undropped.train(tasks(undropped), [{}] * 3)[0].rows, rows)


def test_evaluation_drops_nothing_and_training_drops_again_afterwards():
    one = world()
    rows = one.train(tasks(one), [{}] * 3)[0].rows
    first = one.evaluate(one.initial())
    assert one.evaluate(one.initial()) == first
    assert torch.equal(one.train(tasks(one), [{}] * 3)[0].rows, rows)


def test_a_step_without_a_laid_out_gradient_is_the_same_step():
    """Momentum takes the path with a flat gradient; with none left of it, in the first step, both
    paths end in the same bits."""
    paths = []
    for sgd in ({"momentum": 0.0}, {"momentum": 0.5}):
        here = world(batch_size=6, **sgd)  # one step
        paths.append(here.train(tasks(here), [{}] * 3)[0].rows)
    assert torch.equal(*paths)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"dropout": (0.3, 0.5)}, "multiple of 1/256"), ({"channels": (4,)}, "two channels")],
)
def test_what_cannot_be_built_is_refused(arguments, says):
    with pytest.raises(ConfigError, match=says):
        world(Cnn(**arguments))


def test_dropout_with_clients_at_once_is_refused():
    with pytest.raises(ConfigError, match="batching=loop"):
        world(batching="vmap")
    world(Cnn(channels=(4, 6), hidden=8, dropout=(0.0, 0.0)), batching="vmap")
