"""Neighbours on a line: distances that can be read off."""

import pytest
import torch

from fedalign.core.neighbours import krum_scores, nearest, neighbour_count


def line(*points):
    x = torch.tensor(points, dtype=torch.float64)
    return (x[:, None] - x[None, :]).square()


def test_scores_by_hand():
    """Points 0 1 3: nearest other 1, 1, 4; two nearest 1 + 9, 1 + 4, 9 + 4."""
    assert krum_scores(line(0, 1, 3), 1).tolist() == [1, 1, 4]
    assert krum_scores(line(0, 1, 3), 2).tolist() == [10, 5, 13]


def test_a_clone_counts_as_a_neighbour_a_row_itself_does_not():
    """Points 0 0 5: each 0 has the other at distance 0."""
    assert krum_scores(line(0, 0, 5), 1).tolist() == [0, 0, 25]


@pytest.mark.parametrize(
    ("convention", "n", "f", "count"),
    [
        ("n-f-2", 10, 2, 6),
        ("n-f-1", 10, 2, 7),
        ("n-f", 10, 2, 8),
        ("n-f-2", 3, 2, 1),
        ("n-f", 4, 0, 3),
        ("n-f-2", 1, 0, 0),
    ],
)
def test_count_is_at_least_one_and_at_most_the_others(convention, n, f, count):
    assert neighbour_count(convention, n, f) == count


def test_nearest_includes_the_row_and_prefers_low_indices():
    """Points 0 1 2: row 1 has 0 and 2 equally near and takes index 0."""
    assert nearest(line(0, 1, 2), 2).int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 1]]


def test_a_row_is_its_own_nearest_even_among_clones():
    assert nearest(line(4, 4, 4), 1).int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
