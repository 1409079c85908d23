"""(f, kappa)-robustness by exhaustion, and what huge rows may not do.

Paper: Allouah et al., "Fixing by Mixing", AISTATS 2023, Definition 2 and Table 1: for every S of
n - f rows, |A(X) - mean_S|² <= kappa · mean_S |x_i - mean_S|². With r = f / (n - 2f).
"""

from itertools import combinations

import numpy as np
import pytest
import torch

from defenses.bulyan import Bulyan
from defenses.centered_clipping import CenteredClipping
from defenses.geometric_median import GeometricMedian
from defenses.krum import Krum
from defenses.meamed import Meamed
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.norm_clip import NormClip
from defenses.norm_filter import NormFilter
from defenses.pre.arc import ARC
from defenses.pre.bucketing import Bucketing
from defenses.pre.nnm import NNM
from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Context

N, F = 7, 2
R = F / (N - 2 * F)
KAPPA = {
    "trimmed_mean": (TrimmedMean(F), 6 * R * (1 + R)),
    "krum": (Krum(F, neighbors="n-f-1"), 6 * (1 + R)),
    "median": (Median(), 4 * (1 + R) ** 2),
    "geometric_median": (GeometricMedian(iterations=300), 4 * (1 + R) ** 2),
}
KAPPA |= {
    f"nnm+{name}": (NNM(rule, F), 8 * F / (N - F) * (kappa + 1))
    for name, (rule, kappa) in KAPPA.items()
}


def adversarial(seed):
    """Random rows of three kinds: plain, two of them far away, two of them clones."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 5))
    if seed % 3 == 1:
        x[:F] = 10 ** rng.uniform(0, 3) * rng.standard_normal(5)
    if seed % 3 == 2:
        x[:F] = x[F:].mean(axis=0) + rng.uniform(0.5, 3) * rng.standard_normal(5)
    return torch.from_numpy(x)


def worst_ratio(vector, x):
    """max over S of |vector - mean_S|² / mean_S |x_i - mean_S|²."""
    ratios = []
    for subset in combinations(range(N), N - F):
        benign = x[list(subset)]
        centre = benign.mean(dim=0)
        variance = (benign - centre).square().sum(dim=1).mean()
        ratios.append(float((vector - centre).square().sum() / variance))
    return max(ratios)


@pytest.mark.parametrize("name", KAPPA)
def test_kappa_holds_on_every_subset(name):
    """Table 1's coefficients; measured ratios are well below, so that a violation is a bug."""
    rule, kappa = KAPPA[name]
    ratios = [worst_ratio(rule(x, Context()).vector, x) for x in map(adversarial, range(60))]
    assert max(ratios) <= kappa


def test_no_rule_beats_the_lower_bound():
    """Proposition 6: kappa >= f / (n - 2f). Five rows at 0 and two at 1, from either side: the
    mean of the five first, 0, and of the five last, 2/5, cannot both be hit."""
    x = torch.zeros(N, 1, dtype=torch.float64)
    x[:F] = 1
    for rule, _ in KAPPA.values():
        vector = rule(x, Context()).vector
        assert max(worst_ratio(vector, x), R) >= R


ROBUST = {
    "median": Median(),
    "trimmed_mean": TrimmedMean(),
    "meamed": Meamed(),
    "krum": Krum(),
    "multi_krum": MultiKrum(),
    "bulyan": Bulyan(),
    "geometric_median": GeometricMedian(iterations=100),
    "norm_clip": NormClip(),
    "norm_filter": NormFilter(lower=0.0, space="update"),
    "nnm+trimmed_mean": NNM(TrimmedMean()),
    "nnm+krum": NNM(Krum()),
    "nnm+geometric_median": NNM(GeometricMedian()),
    "arc+median": ARC(Median()),
    "arc+geometric_median": ARC(GeometricMedian()),
    "bucketing+geometric_median": Bucketing(GeometricMedian()),
}


@pytest.mark.parametrize("layout", ["clones", "opposite", "random"])
@pytest.mark.parametrize("size", [1e6, 1e19, 1e30])
@pytest.mark.parametrize("name", ROBUST)
def test_f_huge_rows_do_not_move_the_result_far(name, size, layout):
    """20 clients, 4 of them huge, float32. The result is finite and within the spread of the
    benign rows (|x_i| about sqrt(d) = 10) of their mean."""
    x = torch.randn(20, 100, generator=torch.Generator().manual_seed(3))
    huge = torch.randn(4, 100, generator=torch.Generator().manual_seed(4))
    huge = {"clones": huge[:1].repeat(4, 1), "opposite": -x[:4], "random": huge}[layout]
    x[:4] = size * huge
    decided = ROBUST[name](x, Context(byzantine_count=4, rng=np.random.default_rng(0)))
    assert bool(decided.vector.isfinite().all())
    assert float((decided.vector - x[4:].mean(dim=0)).norm()) <= 12
    if decided.scores is not None:
        assert not bool(decided.scores.isnan().any())


@pytest.mark.parametrize("size", [1e6, 1e30])
@pytest.mark.parametrize("rule", [Krum(), MultiKrum(), Bulyan(), NNM(Krum())])
def test_huge_rows_are_not_accepted(rule, size):
    x = torch.randn(20, 100, generator=torch.Generator().manual_seed(3))
    x[:4] *= size
    assert not bool(rule(x, Context(byzantine_count=4)).accepted[:4].any())


def test_centered_clipping_moves_by_at_most_its_radius():
    """Each step moves by a mean of vectors of length <= tau: after L steps |v| <= L tau."""
    x = torch.randn(20, 100, generator=torch.Generator().manual_seed(3))
    x[:4] = 1e30
    vector = CenteredClipping(tau=1.0, iterations=3)(x, Context(byzantine_count=4)).vector
    assert bool(vector.isfinite().all())
    assert float(vector.norm()) <= 3 + 1e-5


def test_one_attacker_alone_is_rarely_krums_choice():
    """One row at benign mean + 1.5 sigma per coordinate, 19 benign: never among 50 draws."""
    chosen = 0
    for seed in range(50):
        x = torch.randn(20, 200, generator=torch.Generator().manual_seed(seed))
        x[0] = x[1:].mean(dim=0) + 1.5
        chosen += bool(Krum(1)(x).accepted[0])
    assert chosen == 0


def test_clones_close_enough_are_krums_choice():
    """Theorem of the clones: f = 4 equal rows, k = 14 neighbours, 3 of them at distance 0: the
    clones need 11 distances where a benign row needs 14, so at the benign mean they win."""
    x = torch.randn(20, 200, generator=torch.Generator().manual_seed(0))
    x[:4] = x[4:].mean(dim=0)
    decided = Krum(4)(x)
    assert int(decided.accepted.nonzero()) == 0  # four equal scores: the lowest index
    assert decided.scores[:4].unique().numel() == 1
