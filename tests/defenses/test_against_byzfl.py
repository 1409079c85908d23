"""Our rules and ByzFL's on the same float64 matrices."""

import numpy as np
import pytest
import torch

from defenses.centered_clipping import CenteredClipping
from defenses.fedavg import FedAvg
from defenses.geometric_median import GeometricMedian
from defenses.krum import Krum
from defenses.meamed import Meamed
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.pre.arc import ARC
from defenses.pre.bucketing import Bucketing
from defenses.pre.nnm import NNM
from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Context
from tests.byzfl_rules import load_or_skip

MATRICES = [(n, f, seed) for n, f in ((7, 1), (10, 2), (13, 4), (20, 4)) for seed in range(4)]


@pytest.fixture(scope="module")
def byzfl():
    return load_or_skip()


@pytest.fixture(params=MATRICES, ids=lambda m: f"n{m[0]}f{m[1]}s{m[2]}")
def case(request):
    n, f, seed = request.param
    x = torch.randn(n, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:f] = 5 * x[:f] + 1
    return x, f


def same(ours, theirs, rtol=1e-9):
    assert torch.allclose(ours, torch.from_numpy(np.asarray(theirs)), rtol=rtol, atol=rtol)


PLAIN = {
    "Average": lambda a, f: (FedAvg(), a.Average()),
    "Median": lambda a, f: (Median(), a.Median()),
    "TrMean": lambda a, f: (TrimmedMean(f), a.TrMean(f)),
    "Meamed": lambda a, f: (Meamed(f), a.Meamed(f)),
    "Krum": lambda a, f: (Krum(f, neighbors="n-f-1"), a.Krum(f)),
    "MultiKrum": lambda a, f: (MultiKrum(f, neighbors="n-f-1"), a.MultiKrum(f)),
    "GeometricMedian": lambda a, f: (
        GeometricMedian(nu=0.1, iterations=3, start="zero"),
        a.GeometricMedian(nu=0.1, T=3),
    ),
    "CenteredClipping": lambda a, f: (
        CenteredClipping(tau=2.0, iterations=3),
        a.CenteredClipping(L=3, tau=2.0),
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_rule_equals_byzfl(byzfl, case, name):
    x, f = case
    ours, theirs = PLAIN[name](byzfl, f)
    same(ours(x).vector, theirs(x.numpy().copy()))


def test_geometric_medians_agree_once_converged(byzfl, case):
    x, _ = case
    theirs = byzfl.GeometricMedian(nu=1e-6, T=200)(x.numpy())
    same(GeometricMedian(iterations=200)(x).vector, theirs, rtol=1e-6)


@pytest.mark.parametrize("rule", ["Average", "TrMean", "Median"])
def test_nnm_then_a_rule(byzfl, case, rule):
    x, f = case
    ours, theirs = PLAIN[rule](byzfl, f)
    same(NNM(ours, f)(x).vector, theirs(byzfl.NNM(f)(x.numpy())))


@pytest.mark.parametrize("rule", ["Average", "TrMean", "GeometricMedian"])
def test_arc_then_a_rule(byzfl, case, rule):
    x, f = case
    ours, theirs = PLAIN[rule](byzfl, f)
    same(ARC(ours, f)(x).vector, theirs(byzfl.ARC(f)(x.numpy().copy())))


def test_bucketing_makes_the_same_groups_of_the_same_permutation(byzfl, case, monkeypatch):
    """ByzFL shuffles with NumPy's global generator; here it is handed our permutation."""
    x, _ = case
    order = np.random.default_rng(5).permutation(len(x))
    monkeypatch.setattr(np.random, "permutation", lambda rows: rows[order])
    theirs = byzfl.Median()(byzfl.Bucketing(3)(x.numpy()))
    context = Context(rng=np.random.default_rng(5))
    same(Bucketing(Median(), size=3)(x, context).vector, theirs)


def test_centered_clipping_remembers_as_byzfl_does(byzfl):
    """Three rounds, each starting from the last aggregate."""
    theirs, memory = byzfl.CenteredClipping(L=2, tau=1.0), {}
    for seed in range(3):
        x = torch.randn(9, 30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ours = CenteredClipping(tau=1.0, iterations=2)(x, Context(memory=memory))
        memory = ours.memory
        same(ours.vector, theirs(x.numpy()))
