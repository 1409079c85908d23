"""Our rules and Flower's on the same matrices: equal up to float32 rounding."""

import numpy as np
import pytest
import torch

from defenses.bulyan import Bulyan
from defenses.fedavg import FedAvg
from defenses.krum import Krum
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Context

flower = pytest.importorskip(
    "flwr.server.strategy.aggregate", reason="Flower is not installed: pip install fedalign[dev]"
)

MATRICES = [(n, f, seed) for n, f in ((7, 1), (12, 2), (15, 3), (20, 4)) for seed in range(5)]


def rows(n, seed, d=50, dtype=torch.float64):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    x[: n // 5] *= 5
    return x


def results(x, samples=None):
    """Flower's input: per client a list of layers and a sample count."""
    counts = samples or [1] * len(x)
    return [([row[:30].numpy(), row[30:].numpy()], k) for row, k in zip(x, counts, strict=True)]


def same(ours, theirs):
    flat = np.concatenate([np.ravel(layer) for layer in theirs])
    assert torch.allclose(ours.double(), torch.from_numpy(flat).double(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("n", "f", "seed"), MATRICES)
class TestEqualsFlower:
    def test_weighted_mean(self, n, f, seed):
        x, samples = rows(n, seed), list(range(1, n + 1))
        ours = FedAvg(weighting="samples")(x, Context(weights=torch.tensor(samples)))
        same(ours.vector, flower.aggregate(results(x, samples)))

    def test_median(self, n, f, seed):
        x = rows(n, seed)
        same(Median()(x).vector, flower.aggregate_median(results(x)))

    def test_trimmed_mean(self, n, f, seed):
        x, share = rows(n, seed), (f + 0.01) / n  # just above f / n: int() rounds down
        theirs = flower.aggregate_trimmed_avg(results(x), share)
        same(TrimmedMean(f)(x).vector, theirs)
        same(TrimmedMean(fraction=share)(x).vector, theirs)

    def test_krum(self, n, f, seed):
        x = rows(n, seed)
        same(Krum(f)(x).vector, flower.aggregate_krum(results(x), f, 0))

    def test_multi_krum(self, n, f, seed):
        x = rows(n, seed)
        same(MultiKrum(f)(x).vector, flower.aggregate_krum(results(x), f, n - f))

    def test_bulyan(self, n, f, seed):
        x = rows(n, seed)
        theirs = flower.aggregate_bulyan(results(x), f, flower.aggregate_krum, to_keep=0)
        same(Bulyan(f)(x).vector, theirs)

    def test_bulyan_in_float32_chooses_the_same_rows(self, n, f, seed):
        x = rows(n, seed, dtype=torch.float32)
        theirs = flower.aggregate_bulyan(results(x), f, flower.aggregate_krum, to_keep=0)
        flat = torch.from_numpy(np.concatenate([np.ravel(layer) for layer in theirs]))
        assert torch.allclose(Bulyan(f)(x).vector, flat, rtol=1e-5, atol=1e-6)


def test_a_fraction_is_rounded_down_as_flower_does():
    """int(0.29 · 100) = 28, not 29: 0.29 · 100 = 28.999... in binary."""
    x = rows(100, 0)
    ours = TrimmedMean(fraction=0.29)(x)
    assert ours.notes["trim"] == 28
    same(ours.vector, flower.aggregate_trimmed_avg(results(x), 0.29))


def test_one_shot_bulyan_equals_the_newer_strategy():
    """`flwr.serverapp.strategy.bulyan` scores once and takes the best theta."""
    bulyan = pytest.importorskip("flwr.serverapp.strategy.bulyan")
    for n, f, seed in MATRICES:
        x = rows(n, seed)
        scores = Krum(f)(x).scores
        theta = n - 2 * f
        selected = x[scores.sort(stable=True).indices[:theta]].numpy()
        theirs = bulyan.aggregate_n_closest_weights(
            [np.median(selected, axis=0)], [[row] for row in selected], theta - 2 * f
        )
        same(Bulyan(f, selection="oneshot")(x).vector, theirs)
