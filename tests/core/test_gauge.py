"""Gauge: products against explicit ones, what turning leaves alone, what alignment undoes."""

import pytest
import torch

from fedalign.core.gauge import aligned, factors, points, product_gram, turned
from fedalign.core.vectors import Layout

LAYOUT = Layout.of({
    "q.lora_A.default.weight": (2, 5), "q.lora_B.default.weight": (4, 2),
    "v.lora_A.default.weight": (3, 5), "v.lora_B.default.weight": (6, 3), "head": (7,),
})  # fmt: skip


def world(count=4, size=0.3):
    draw = torch.Generator().manual_seed(0)
    model = torch.randn(LAYOUT.size, generator=draw)
    return size * torch.randn(count, LAYOUT.size, generator=draw), model


def updates(rows, model):
    """(n, all weights), B_i A_i - B_0 A_0 written out, and the head's change."""
    found = []
    for row in rows:
        old, new = LAYOUT.views(model.double()), LAYOUT.views(model.double() + row.double())
        flat = [new["head"] - old["head"]]
        for layer in "qv":
            a, b = (f"{layer}.lora_{x}.default.weight" for x in "AB")
            flat.append((new[b] @ new[a] - old[b] @ old[a]).flatten())
        found.append(torch.cat(flat))
    return torch.stack(found)


def signs(a, b, a0, b0):
    return -torch.eye(a.shape[1], dtype=a.dtype).expand(len(a), -1, -1)


def test_inner_products_are_those_of_the_products_written_out():
    rows, model = world()
    explicit = updates(rows, model)
    gram = product_gram(rows, model, LAYOUT)
    assert len(factors(LAYOUT)) == 2
    assert torch.allclose(gram, explicit @ explicit.T, atol=1e-10)
    found = points(gram)
    assert torch.allclose(found @ found.T, gram, atol=1e-10)
    assert torch.allclose(torch.cdist(found, found), torch.cdist(explicit, explicit), atol=1e-8)


@pytest.mark.parametrize("size", [1e-3, 0.3])
def test_a_turned_row_moves_far_and_does_the_same(size):
    """Signs of all ranks: -A and -B. The row is about -2 (A_0, B_0); its products are the old ones."""
    rows, model = world(size=size)
    other = turned(rows, model, LAYOUT, signs)
    assert torch.cosine_similarity(rows, other).abs().max() < 0.9
    assert torch.allclose(product_gram(other, model, LAYOUT), product_gram(rows, model, LAYOUT), rtol=1e-3, atol=1e-5)  # fmt: skip
    back = aligned(other, model, LAYOUT)
    assert torch.allclose(back, aligned(rows, model, LAYOUT), atol=1e-5)
    assert torch.allclose(updates(back, model), updates(rows, model), atol=1e-5)
    assert (back - rows).norm() < 0.5 * rows.norm()


def test_alignment_finds_any_rotation():
    rows, model = world(size=0.0)

    def rotation(a, b, a0, b0):
        draw = torch.Generator().manual_seed(a.shape[1])
        q = torch.linalg.qr(torch.randn(a.shape[1], a.shape[1], generator=draw).double())[0]
        return q.expand(len(a), -1, -1)

    other = turned(rows, model, LAYOUT, rotation)
    assert other.norm() > 1 and torch.allclose(aligned(other, model, LAYOUT), rows, atol=1e-6)
