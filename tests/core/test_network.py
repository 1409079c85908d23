"""The pruned sorting network: it sorts, and it is as small as it should be."""

from itertools import product

import pytest
import torch

from fedalign.core.network import Network, Role, comparators


def middle(n):
    return [Role.READ if i in ((n - 1) // 2, n // 2) else Role.UNREAD for i in range(n)]


@pytest.mark.parametrize("n", range(1, 12))
def test_sorts_every_pattern_of_zeros_and_ones(n):
    """The 0-1 principle (Knuth 5.3.4, Theorem Z): a network that sorts these sorts everything."""
    x = torch.tensor(list(product((0.0, 1.0), repeat=n))).T.contiguous()
    wires = Network.of([Role.READ] * n).bind(x.shape[1], like=x)(x)
    assert torch.equal(torch.stack(list(wires)), x.sort(dim=0).values)


@pytest.mark.parametrize("n", range(1, 11))
def test_pruned_wires_on_every_pattern(n):
    """Middle wires are right; summed wires hold the right values in some order."""
    x = torch.tensor(list(product((0.0, 1.0), repeat=n))).T.contiguous()
    ordered = x.sort(dim=0).values
    wires = Network.of(middle(n)).bind(x.shape[1], like=x)(x)
    for i in {(n - 1) // 2, n // 2}:
        assert torch.equal(wires[i], ordered[i])
    for cut in range((n + 1) // 2):
        kept = range(cut, n - cut)
        roles = [Role.SUMMED if i in kept else Role.UNREAD for i in range(n)]
        wires = Network.of(roles).bind(x.shape[1], like=x)(x)
        assert torch.equal(sum(wires[i] for i in kept), ordered[cut : n - cut].sum(dim=0))


def test_sizes_of_batchers_network():
    """Knuth 5.3.4 lists 3, 5, 9, 12, 16, 19 comparators for n = 3 .. 8; 103 and 1104 are Batcher's
    for 20 and 100, of which a median needs 84 and 898."""
    full = [comparators([Role.READ] * n) for n in (2, 3, 4, 5, 6, 7, 8, 20, 100)]
    assert full == [1, 3, 5, 9, 12, 16, 19, 103, 1104]
    assert [comparators(middle(n)) for n in (20, 100)] == [84, 898]


def test_a_sum_of_everything_needs_no_comparator():
    assert comparators([Role.SUMMED] * 20) == 0


def test_a_workspace_is_used_again_without_traces():
    """A short chunk after a long one: columns beyond it are garbage, those inside are right."""
    x = torch.randn(13, 50, generator=torch.Generator().manual_seed(0))
    sorter = Network.of([Role.READ] * 13).bind(50, like=x)
    sorter(x)
    wires = sorter(x[:, 40:])
    assert torch.equal(torch.stack(list(wires))[:, :10], x[:, 40:].sort(dim=0).values)
