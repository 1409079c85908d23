"""Payloads and their layout."""

import torch
from torch import nn

from fedalign.core.vectors import Layout, counted
from fedalign.training.flat import FlatModel


def test_parts_lie_in_name_order_without_gaps():
    """b: 2 x 3 = 6 values at 0? No: sorted by name, a (2 values) comes first, then b (6)."""
    layout = Layout.of({"b": (2, 3), "a": (2,)})
    assert [(p.name, p.offset, p.size) for p in layout.parts] == [("a", 0, 2), ("b", 2, 6)]
    assert layout.size == 8


def test_flatten_and_views_are_inverse_and_views_share_memory():
    layout = Layout.of({"b": (2, 3), "a": (2,)})
    tensors = {"a": torch.tensor([1.0, 2.0]), "b": torch.arange(6.0).view(2, 3)}
    vector = layout.flatten(tensors)
    views = layout.views(vector)
    assert all(torch.equal(views[name], tensors[name]) for name in tensors)
    views["a"][0] = 9
    assert vector[0] == 9
    assert layout.views(torch.zeros(4, 8))["b"].shape == (4, 2, 3)


def test_a_flat_model_computes_with_the_loaded_vector_and_keeps_frozen_parts_out():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].weight.requires_grad_(False)
    flat = FlatModel(module, torch.device("cpu"))
    assert [p.name for p in flat.layout.parts] == ["0.bias", "1.bias", "1.weight"]
    flat.load(torch.zeros(flat.layout.size))
    assert module(torch.ones(1, 2)).item() == 0
    flat.load(torch.ones(flat.layout.size))
    assert module[1].weight.tolist() == [[1.0, 1.0]]
    module(torch.ones(1, 2)).sum().backward()
    assert flat.gradient[flat.layout.parts[1].span].item() == 1.0


def test_a_tenth_of_an_equal_share_counts_however_it_was_rounded():
    """22 rows, one of which two of 22 mixtures of 20 rows took: its weight is 1/220 exactly."""
    weights = torch.full((22,), 1.0, dtype=torch.float64)
    weights[3], weights[5] = 0.0, (22 - 2) / (220 - 1)  # w = (20 + w) / 220
    for factor in (1.0, 1 / 3, 0.1, 7.7):
        found = counted(weights * factor)
        assert found.tolist() == [i != 3 for i in range(22)]
    weights[5] *= 1 - 1e-6
    assert not counted(weights)[5]
    assert not counted(torch.zeros(3)).any()
