"""FLAME: the majority by angle, clipped to the median length, on updates and on models."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.flame import FLAME
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError

SILENT = FLAME(noise=0.0)


def test_toy_by_hand():
    """Three rows along (1, 0), two along (0, 1); lengths 1, 2, 4, 3, 3, median 3. Kept: the three,
    clipped to 1, 2, 3: mean (2, 0), coefficients 1/3, 1/3, 3/4 / 3."""
    rows = torch.tensor([[1.0, 0], [2, 0], [4, 0], [0, 3], [0, 3]])
    result = SILENT(rows)
    assert result.accepted.tolist() == [True, True, True, False, False]
    assert result.vector.tolist() == [2.0, 0.0]
    assert result.coefficients.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 4, 0, 0])
    assert result.notes["clip_bound"] == 3.0


def test_majority_linkage_stops_at_the_first_majority():
    """Angles 0, 1, 3, 6, 20, 24, 90 degrees; n = 7, majority 4. Links by gap: 0-1, 1-3, 3-6 make
    four at a gap of 3 degrees; the pair 20-24 would need 4."""
    angles = torch.deg2rad(torch.tensor([0.0, 1, 3, 6, 20, 24, 90], dtype=torch.float64))
    result = SILENT(torch.stack([angles.cos(), angles.sin()], dim=1))
    assert result.accepted.tolist() == [True] * 4 + [False] * 3


def test_ties_join_together_so_that_order_cannot_matter():
    """Four axes at right angles: every edge is 1, nobody is nearer; all stay."""
    assert bool(SILENT(torch.eye(4)).accepted.all())


def test_noise_is_lambda_times_the_median_length():
    rows = torch.full((3, 20_000), 0.5, dtype=torch.float64)
    result = FLAME(noise=0.1)(rows, Context(rng=np.random.default_rng(1)))
    spread = (result.vector - 0.5).std()
    assert float(spread) == pytest.approx(0.1 * 0.5 * 20_000**0.5, rel=0.03)
    assert result.coefficients is None and not FLAME().linear and SILENT.linear
    again = FLAME(noise=0.1)(rows, Context(rng=np.random.default_rng(1)))
    assert torch.equal(again.vector, result.vector)


def test_models_hide_the_angle_that_updates_show():
    """Model (100, 0), updates (1, 0) x3, (-1, 0) x2: opposite as updates, parallel as models."""
    rows = torch.tensor([[1.0, 0], [1, 0], [1, 0], [-1, 0], [-1, 0]])
    context = Context(model=torch.tensor([100.0, 0.0]))
    assert SILENT(rows, context).accepted.tolist() == [True] * 3 + [False] * 2
    models = FLAME(noise=0.0, space="model")(rows, context)
    assert bool(models.accepted.all())
    assert models.vector.tolist() == pytest.approx([0.2, 0])  # clipping is of updates: length 1


def test_models_with_a_long_common_part_lose_no_digits():
    """Scores are mean cosine distances: float32 rows at |model| = 1000 |update| against float64."""
    random = np.random.default_rng(0)
    updates = torch.from_numpy(random.normal(size=(6, 500))).float()
    model = 1000 * torch.from_numpy(random.normal(size=500)).float()
    models = updates.double() + model.double()
    unit = models / models.norm(dim=1, keepdim=True)
    exact = (1 - unit @ unit.T).fill_diagonal_(0).sum(dim=1) / 5
    got = FLAME(noise=0.0, space="model")(updates, Context(model=model)).scores
    torch.testing.assert_close(got, exact, rtol=1e-3, atol=0)


@given(st.integers(0, 500), st.integers(5, 16))
def test_both_clusterings_drop_a_well_separated_minority(seed, n):
    random = np.random.default_rng(seed)
    f = int(random.integers(1, (n - 1) // 2 + 1))
    rows = torch.from_numpy(5 + random.normal(size=(n, 60)))
    liars = random.choice(n, f, replace=False)
    rows[liars] = rows[liars] * -1
    linkage = SILENT(rows).accepted
    dense = FLAME(noise=0.0, cluster="hdbscan")(rows).accepted
    assert not linkage[liars].any() and not dense[liars].any()
    assert int(linkage.sum()) > n // 2
    assert int(dense.sum()) > n // 2


@given(st.permutations(range(9)), st.floats(0.1, 10))
def test_permutation_and_scale(order, scale):
    rows = torch.from_numpy(np.random.default_rng(4).normal(size=(9, 6)))
    plain = SILENT(rows)
    moved = SILENT(scale * rows[list(order)])
    assert moved.accepted.tolist() == plain.accepted[list(order)].tolist()
    torch.testing.assert_close(moved.vector, scale * plain.vector)


def test_edges():
    for rule in (SILENT, FLAME(noise=0.0, cluster="hdbscan")):
        assert rule(torch.tensor([[2.0]])).vector.tolist() == [2.0]
        assert bool(rule(torch.tensor([[1.0, 0], [0, 1]])).accepted.all())
        assert rule(torch.ones(5, 3)).vector.tolist() == pytest.approx([1.0] * 3)
        assert rule(torch.zeros(4, 3)).vector.tolist() == [0.0] * 3
        huge = torch.ones(5, 3)
        huge[4] = -1e30
        assert rule(huge).vector.tolist() == pytest.approx([1.0] * 3)
    assert bool(SILENT(torch.ones(3, 2), Context(model=-torch.ones(2))).vector.isfinite().all())
    with pytest.raises(ToleranceError, match="f=2 needs at least 5 clients, got 4"):
        SILENT(torch.ones(4, 2), Context(byzantine_count=2))
    with pytest.raises(ConfigError, match="noise must be 0 or more"):
        FLAME(noise=-1)
    with pytest.raises(ConfigError, match="'majority_linkage' or 'hdbscan', got 'kmeans'"):
        FLAME(cluster="kmeans")
