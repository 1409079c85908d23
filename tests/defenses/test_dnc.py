"""DnC: rows shifted together are exactly the dropped ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.dnc import DnC
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError


@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([20_000, 50]))
def test_rows_shifted_by_100_sigma_are_exactly_dropped(seed, f, columns):
    random = np.random.default_rng(seed)
    rows = torch.from_numpy(random.normal(size=(11, 300)))
    liars = random.choice(11, f, replace=False)
    rows[liars] += 100 * torch.from_numpy(random.choice([-1.0, 1.0], 300))
    result = DnC(columns=columns)(rows, Context(byzantine_count=f, rng=random))
    assert (~result.accepted).nonzero().flatten().tolist() == sorted(liars)
    torch.testing.assert_close(result.vector, rows[result.accepted].mean(dim=0))


def test_scores_by_hand():
    """Rows (0, 0), (2, 0), (4, 0), (6, 0.0): mean (3, 0), v = (1, 0): scores 9, 1, 1, 9. One is
    dropped: of the two 9s the one with the higher index."""
    rows = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [6.0, 0.0]])
    result = DnC(byzantine_count=1)(rows)
    assert result.scores.tolist() == pytest.approx([9, 1, 1, 9])
    assert int(result.accepted.sum()) == 3
    assert bool(result.accepted[1]) and bool(result.accepted[2])


def test_scores_are_those_of_the_singular_vector():
    rows = torch.from_numpy(np.random.default_rng(3).normal(size=(9, 40)))
    centred = rows - rows.mean(dim=0)
    v = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    result = DnC(byzantine_count=2)(rows)
    torch.testing.assert_close(result.scores, (centred @ v).square(), rtol=1e-9, atol=1e-12)


def test_more_iterations_drop_more_and_the_filter_factor_counts():
    random = np.random.default_rng(5)
    rows = torch.from_numpy(random.normal(size=(12, 200)))
    kept = [
        int(DnC(byzantine_count=2, columns=20, **more)(rows, Context(rng=random)).accepted.sum())
        for more in ({}, {"filter_factor": 1.5}, {"iterations": 6})
    ]
    assert kept[0] == 10 and kept[1] == 9 and kept[2] < 10


def test_an_empty_intersection_falls_back_to_the_last_iteration():
    """3 rows, 1 dropped each time, single coordinates: after enough draws everybody was dropped."""
    rows = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])
    result = DnC(byzantine_count=1, columns=1, iterations=60)(rows)
    assert int(result.accepted.sum()) == 2 and not result.skipped


def test_the_server_s_generator_decides_the_coordinates():
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(9, 500)))
    rule = DnC(byzantine_count=4, columns=5)
    draw = lambda seed: rule(rows, Context(rng=np.random.default_rng(seed))).accepted.tolist()  # noqa: E731
    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(10)}) > 1


@given(st.permutations(range(9)), st.floats(-5, 5))
def test_permutation_and_translation(order, shift):
    rows = torch.from_numpy(np.random.default_rng(2).normal(size=(9, 6)))
    rule = DnC(byzantine_count=2)
    plain = rule(rows).vector
    torch.testing.assert_close(rule(rows[list(order)]).vector, plain)
    torch.testing.assert_close(rule(rows + shift).vector, plain + shift)


def test_edges():
    one = DnC(byzantine_count=0)(torch.tensor([[5.0]]))
    assert one.vector.tolist() == [5.0] and one.accepted.tolist() == [True]
    assert bool(DnC(byzantine_count=0)(torch.randn(2, 3)).accepted.all())
    equal = DnC(byzantine_count=1)(torch.ones(3, 4))
    assert equal.vector.tolist() == [1.0] * 4 and equal.accepted.tolist() == [True, True, False]
    rows = torch.zeros(7, 3)
    rows[6] = 1e30
    assert not DnC(byzantine_count=1)(rows).accepted[6]
    with pytest.raises(ToleranceError, match="f=2 needs at least 5 clients, got 4"):
        DnC(byzantine_count=2)(torch.ones(4, 2))
    with pytest.raises(ConfigError, match="columns >= 1"):
        DnC(columns=0)
    with pytest.raises(ConfigError, match="byzantine_count"):
        DnC()(torch.ones(4, 2))
