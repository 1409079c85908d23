"""Gauge: products against explicit ones, what turning leaves alone, what alignment undoes."""

import pytest
import torch

from fedalign.core.gauge import (
    aligned,
    cross_term,
    factors,
    merged,
    points,
    product_gram,
    turned,
)
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


def test_the_cross_term_is_what_averaging_factors_misses():
    """A1=[1,0], B1=[1,0]^T, A2=[0,1], B2=[0,1]^T: mean(BA) = I/2 of norm sqrt(.5), and mean(B)
    mean(A) is all 1/4: .5 away from it. Equal A: nothing is missed, whatever B and the weights."""
    layout = Layout.of({"q.lora_A.w": (1, 2), "q.lora_B.w": (2, 1)})
    rows, zero, even = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]]), torch.zeros(4), torch.ones(2)
    assert cross_term(rows, zero, even, layout) == pytest.approx(0.5**0.5, abs=1e-12)
    same = torch.tensor([[3.0, 1, 1, 5], [3, 1, 7, 2]])
    assert cross_term(same, zero, torch.tensor([1.0, 4.0]), layout) < 1e-7
    assert torch.isnan(torch.tensor(cross_term(rows, zero, even, Layout.of({"head": (4,)}))))
    many, model = world(count=12)  # wide products and narrow ones
    weights = torch.rand(12, generator=torch.Generator().manual_seed(1)).double()
    shares = weights / weights.sum()
    products = shares @ (updates(many, model) + 0)[:, 7:]
    mean = (shares[:, None] * many.double()).sum(dim=0, keepdim=True)
    start = torch.cat([
        (LAYOUT.views(model.double())[f"{x}.lora_B.default.weight"]
         @ LAYOUT.views(model.double())[f"{x}.lora_A.default.weight"]).flatten() for x in "qv"
    ])  # fmt: skip
    expected = (products - updates(mean, model)[0, 7:]).norm() / (products + start).norm()
    assert cross_term(many, model, weights, LAYOUT) == pytest.approx(float(expected), rel=1e-9)


def test_merged_products_are_the_nearest_of_their_rank():
    """No rank-r product is nearer to the mean than the SVD's; with one row it is the row's own; rows
    of A keep their length; other columns are averaged."""
    rows, model = world()
    c = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    found = merged(rows, model, c, LAYOUT)
    goal = c @ updates(rows, model)
    far = (updates(found[None], model)[0] - goal).norm()
    old = LAYOUT.views(model.double())
    best, offset = 0.0, 7
    for layer, rank, shape in (("q", 2, (4, 5)), ("v", 3, (6, 5))):
        a, b = (f"{layer}.lora_{x}.default.weight" for x in "AB")
        whole = goal[offset : offset + shape[0] * shape[1]].view(shape) + old[b] @ old[a]
        best += float(torch.linalg.svdvals(whole)[rank:].square().sum())
        offset += shape[0] * shape[1]
        new = LAYOUT.views((model + found).double())[a]
        assert float(new.norm()) == pytest.approx(float(old[a].norm()), rel=1e-5)
    assert float(far) == pytest.approx(best**0.5, rel=1e-4)
    assert torch.allclose(LAYOUT.views(found)["head"].double(), goal[:7], atol=1e-6)
    alone = merged(rows[:1], model, torch.ones(1).double(), LAYOUT)
    assert torch.allclose(updates(alone[None], model), updates(rows[:1], model), atol=1e-5)
