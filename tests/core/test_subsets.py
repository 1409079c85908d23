"""Random coordinates: how many, where, and from nothing but the generator."""

from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedalign.core.subsets import subset_of_blocks, subset_of_each


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=5),
    st.floats(0.01, 1),
    st.booleans(),
    st.integers(0, 99),
)
def test_pieces_lie_in_their_spans_sorted_and_never_empty(sizes, share, exact, seed):
    ends = np.cumsum(sizes).tolist()
    spans = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    pieces = subset_of_each(spans, share, np.random.default_rng(seed), exact)
    for span, piece in zip(spans, pieces, strict=True):
        assert len(piece) and span.start <= piece[0] and piece[-1] < span.stop
        assert bool((piece.diff() > 0).all())
        if exact:
            assert len(piece) == max(1, ceil(share * (span.stop - span.start) - 1e-9))


@pytest.mark.parametrize(
    "share, size, count", [(0.1, 30, 3), (0.5, 7, 4), (0.25, 1, 1), (1.0, 5, 5)]
)
def test_exact_counts_round_up_without_rounding_noise(share, size, count):
    """0.1 * 30 is 3.0000000000000004 in floating point, yet three tenths are meant."""
    assert len(subset_of_each([slice(0, size)], share, np.random.default_rng(0))[0]) == count


def test_same_generator_same_coordinates():
    def draw(seed):
        return subset_of_each([slice(0, 1000)], 0.5, np.random.default_rng(seed))[0]

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("exact", [True, False])
def test_every_coordinate_is_equally_likely(exact):
    """2000 draws of a fifth of 50: each count has mean 400, sd at most sqrt(2000 * 0.2 * 0.8) = 17.9."""
    random, counts = np.random.default_rng(3), np.zeros(50)
    for _ in range(2000):
        counts[subset_of_each([slice(0, 50)], 0.2, random, exact)[0].numpy()] += 1
    assert np.abs(counts - 400).max() < 4.5 * 17.9


def test_blocks_are_contiguous():
    """10 columns in blocks of 4: [0-3], [4-7], [8-9]; half of three blocks is two."""
    seen = set()
    for seed in range(30):
        chosen = subset_of_blocks(10, 4, 0.5, np.random.default_rng(seed)).tolist()
        seen.add(tuple(chosen))
    first, second, third = (0, 1, 2, 3), (4, 5, 6, 7), (8, 9)
    assert seen == {first + second, first + third, second + third}
    assert subset_of_blocks(3, 4096, 0.5, np.random.default_rng(0)).tolist() == [0, 1, 2]
