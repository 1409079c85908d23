"""What every rule of the catalogue owes, on random matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.bulyan import Bulyan
from defenses.centered_clipping import CenteredClipping
from defenses.fedavg import FedAvg
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
from fedalign.core.errors import ToleranceError

RULES = {
    "fedavg": FedAvg(),
    "median": Median(),
    "trimmed_mean": TrimmedMean(),
    "trimmed_mean_fraction": TrimmedMean(fraction=0.2),
    "meamed": Meamed(),
    "krum": Krum(),
    "krum_n-f-1": Krum(neighbors="n-f-1"),
    "krum_n-f": Krum(neighbors="n-f"),
    "multi_krum": MultiKrum(),
    "bulyan": Bulyan(),
    "bulyan_oneshot": Bulyan(selection="oneshot"),
    "geometric_median": GeometricMedian(),
    "norm_clip": NormClip(),
    "norm_filter": NormFilter(lower=0.0, factor=1.5, space="update"),
    "centered_clipping": CenteredClipping(),
    "nnm+mean": NNM(FedAvg()),
    "nnm+trimmed_mean": NNM(TrimmedMean()),
    "arc+median": ARC(Median()),
    "bucketing+median": Bucketing(Median()),
}
SHIFTS = set(RULES) - {
    "norm_clip",
    "norm_filter",
    "arc+median",
    "centered_clipping",  # its start would have to be shifted too: tested with the rule
}
SCALES = set(RULES) - {"centered_clipping", "geometric_median"}  # they have a length of their own
COORDINATEWISE = ("median", "trimmed_mean", "meamed", "bulyan", "bulyan_oneshot")

matrices = st.tuples(
    st.integers(11, 24), st.integers(1, 30), st.integers(0, 2), st.integers(0, 10_000)
)


def draw(shape, dtype=torch.float64):
    n, d, f, seed = shape
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x, f


def context(f):
    return Context(byzantine_count=f, rng=np.random.default_rng(7))


def close(a, b):
    return torch.allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", sorted(set(RULES) - {"bucketing+median", "bulyan"}))
@given(shape=matrices)
def test_order_of_clients_does_not_matter(name, shape):
    x, f = draw(shape)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(shape[3]))
    one, other = RULES[name](x, context(f)), RULES[name](x[order], context(f))
    assert close(one.vector, other.vector)
    assert torch.equal(one.accepted[order], other.accepted)


@given(n=st.integers(15, 24), seed=st.integers(0, 10_000))
def test_order_of_clients_does_not_matter_to_bulyan_from_f_3_on(n, seed):
    """Its last Krum adds up k = max(1, f - 1) distances. With k = 1 the two rows of the closest
    pair always tie, and the lower index wins: no permutation invariance for f = 1 and 2."""
    x, f = draw((n, 5, 3, seed))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    one, other = Bulyan(f)(x), Bulyan(f)(x[order])
    assert close(one.vector, other.vector)
    assert torch.equal(one.accepted[order], other.accepted)


def test_bulyan_breaks_the_tie_of_a_closest_pair_by_index():
    """f = 1, n = 7, theta = 5. The last choice is among three rows with k = 1 neighbour. Rows
    0 .. 3 go first (scores of the crowd); of 10, 11, 30 the pair at distance 1 ties."""
    x = torch.tensor([[0.0], [0.1], [0.2], [0.3], [10.0], [11.0], [30.0]], dtype=torch.float64)
    assert Bulyan(1)(x).accepted.tolist() == [True] * 5 + [False] * 2
    swapped = x[[0, 1, 2, 3, 5, 4, 6]]
    assert Bulyan(1)(swapped).accepted.tolist() == [True] * 5 + [False] * 2  # now the row at 11


@pytest.mark.parametrize("name", sorted(SHIFTS))
@given(shape=matrices)
def test_shifted_rows_shift_the_result(name, shape):
    x, f = draw(shape)
    shift = torch.linspace(-30, 30, x.shape[1], dtype=torch.float64)
    moved = RULES[name](x + shift, context(f)).vector
    assert torch.allclose(moved, RULES[name](x, context(f)).vector + shift, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SCALES))
@given(shape=matrices, factor=st.sampled_from([1e-3, 0.5, 3.0, 1e4]))
def test_scaled_rows_scale_the_result(name, shape, factor):
    x, f = draw(shape)
    found = RULES[name](factor * x, context(f)).vector
    assert torch.allclose(found, factor * RULES[name](x, context(f)).vector, atol=1e-6 * factor)


@given(shape=matrices, factor=st.sampled_from([0.25, 2.0, 1024.0]))
def test_rules_with_a_length_scale_together_with_it(shape, factor):
    """Powers of two scale every step exactly."""
    x, f = draw(shape)
    for rule, scaled in (
        (GeometricMedian(nu=0.01), GeometricMedian(nu=0.01 * factor)),
        (CenteredClipping(tau=0.5), CenteredClipping(tau=0.5 * factor)),
        (NormClip(0.5), NormClip(0.5 * factor)),
    ):
        assert close(scaled(factor * x, context(f)).vector, factor * rule(x, context(f)).vector)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(RULES))
@given(shape=matrices)
def test_equal_rows_give_that_row(name, shape, dtype):
    x, f = draw(shape, dtype)
    x = x[:1].repeat(len(x), 1)
    found = RULES[name](x, context(f)).vector
    assert torch.allclose(found, x[0], rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)


@pytest.mark.parametrize("name", sorted(RULES))
@given(shape=matrices)
def test_coefficients_tell_the_truth(name, shape):
    x, f = draw(shape)
    decided = RULES[name](x, context(f))
    assert decided.vector.shape == x[0].shape
    assert decided.accepted.shape == (len(x),) and decided.accepted.dtype == torch.bool
    assert RULES[name].linear == (decided.coefficients is not None)
    if decided.coefficients is not None:
        assert decided.coefficients.dtype == torch.float64
        assert close(decided.coefficients @ x, decided.vector)
        assert float(decided.coefficients.min()) >= 0
        assert float(decided.coefficients.sum()) <= 1 + 1e-9
    if decided.scores is not None:
        assert decided.scores.shape == (len(x),) and decided.scores.dtype == torch.float64


@pytest.mark.parametrize("name", COORDINATEWISE)
@given(shape=matrices, size=st.sampled_from([3.0, 1e6, 1e30]))
def test_coordinates_stay_among_the_benign(name, shape, size):
    """f rows anywhere: every coordinate lies in the benign [min, max], in float32 exactly."""
    x, f = draw(shape, torch.float32)
    x[:f] *= size
    found = RULES[name](x, context(f)).vector
    benign = x[f:]
    assert bool((benign.min(dim=0).values <= found).all())
    assert bool((found <= benign.max(dim=0).values).all())


@pytest.mark.parametrize(
    "rule", [TrimmedMean(0), Meamed(0), MultiKrum(0), NNM(Median(), 0), GeometricMedian(nu=1e9)]
)
@given(shape=matrices)
def test_with_f_0_they_are_the_mean(rule, shape):
    """MultiKrum keeps n; NNM makes every row the mean; a huge nu makes all weights equal."""
    x, _ = draw(shape)
    assert close(rule(x).vector, x.mean(dim=0))


@pytest.mark.parametrize("name", sorted(RULES))
def test_float32_is_near_float64(name):
    x, f = draw((20, 5000, 4, 1))
    wide = RULES[name](x.float().double(), context(f))
    narrow = RULES[name](x.float(), context(f))
    assert narrow.vector.dtype == torch.float32
    scale = float(wide.vector.abs().max())
    assert torch.allclose(narrow.vector.double(), wide.vector, rtol=1e-4, atol=1e-5 * scale)
    assert torch.equal(narrow.accepted, wide.accepted)


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_clients_and_one_coordinate(name, n):
    """With f = 0 a rule either refuses with the number it needs, or stays among the values."""
    x = torch.arange(1.0, n + 1)[:, None]
    rule = RULES[name]
    needs = rule.minimum(0)
    if n < needs:
        with pytest.raises(ToleranceError, match=f"at least {needs} clients, got {n}"):
            rule(x, context(0))
    else:
        assert 1 - 1e-6 <= rule(x, context(0)).vector.item() <= n


@pytest.mark.parametrize("name", sorted(RULES))
def test_zero_rows_and_duplicates(name):
    x = torch.zeros(11, 3)
    assert RULES[name](x, context(2)).vector.tolist() == [0, 0, 0]
    x[3:7] = 1
    assert bool(RULES[name](x, context(2)).vector.isfinite().all())


@pytest.mark.parametrize("name", sorted(RULES))
def test_same_input_same_bits_and_nothing_touched(name):
    x, f = draw((20, 20_000, 4, 2), torch.float32)
    before = x.clone()
    one, other = RULES[name](x, context(f)), RULES[name](x, context(f))
    assert torch.equal(one.vector, other.vector)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", sorted(set(RULES) - {"fedavg", "norm_clip", "norm_filter"}))
def test_the_minimum_is_enforced(name):
    rule = RULES[name]
    needs = rule.minimum(3)
    x, _ = draw((needs - 1, 4, 3, 0))
    if needs == 1:
        return
    with pytest.raises(ToleranceError, match=f"needs at least {needs} clients, got {needs - 1}"):
        rule(x, context(3))
    x, _ = draw((needs, 4, 3, 0))
    assert bool(rule(x, context(3)).vector.isfinite().all())
