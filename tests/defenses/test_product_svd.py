"""Product SVD: the best adapter for the mean of what adapters do, under any rule with coefficients."""

import pytest
import torch

from defenses.fedavg import FedAvg
from defenses.krum import Krum
from defenses.median import Median
from defenses.product_svd import ProductSvd
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from tests.defenses.test_product_space import LAYOUT, product, world


def test_it_comes_nearer_to_the_mean_of_products_than_the_mean_of_factors():
    rows, context = world()
    rows = 5 * rows
    goal = torch.stack([product(row, context.model) for row in rows]).mean(dim=0)
    found, plain = ProductSvd(FedAvg())(rows, context), FedAvg()(rows, context)
    far, farther = ((product(a.vector, context.model) - goal).norm() for a in (found, plain))
    assert far < 0.9 * farther
    assert far == pytest.approx(float(torch.linalg.svdvals(goal.double())[2:].norm()), rel=1e-3)
    assert torch.equal(found.accepted, plain.accepted) and found.coefficients is None


def test_under_a_rule_that_selects_one_row_it_is_that_row():
    rows, context = world()
    rule, chosen = ProductSvd(Krum()), Krum()(rows, context)
    found = rule(rows, context)
    assert torch.equal(found.accepted, chosen.accepted)
    there = product(chosen.vector, context.model)
    assert torch.allclose(product(found.vector, context.model), there, atol=1e-4)
    assert rule.minimum(2) == Krum().minimum(2) and rule.space == Krum().space


def test_refusals():
    rows, context = world()
    with pytest.raises(ConfigError, match="Median has none: wrap fedavg, krum"):
        ProductSvd(Median())
    with pytest.raises(ConfigError, match="without layout or model"):
        ProductSvd(FedAvg())(rows)
    flat = Context(model=context.model, layout=LAYOUT.of({"head": (LAYOUT.size,)}))
    with pytest.raises(ConfigError, match="finds no lora_A and lora_B"):
        ProductSvd(FedAvg())(rows, flat)
