"""Product space: an honest adapter in other factors is no outlier, and averaging it does no harm."""

import pytest
import torch

from attacks.gauge_flip import GaugeFlip
from defenses.fedavg import FedAvg
from defenses.fltrust import FLTrust
from defenses.krum import Krum
from defenses.median import Median
from defenses.product_space import ProductSpace
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from fedalign.core.threat import View
from fedalign.core.vectors import Layout

LAYOUT = Layout.of({"q.lora_A.default.weight": (2, 6), "q.lora_B.default.weight": (5, 2)})


def world(count=7):
    draw = torch.Generator().manual_seed(0)
    model = torch.randn(LAYOUT.size, generator=draw)
    common = torch.randn(LAYOUT.size, generator=draw)
    rows = 0.2 * common + 0.05 * torch.randn(count, LAYOUT.size, generator=draw)
    weights = torch.ones(count).double()
    return rows, Context(model=model, layout=LAYOUT, byzantine_count=2, weights=weights)


def flipped(rows, context, count=2, turn="signs"):
    view = View(1, len(rows), rows[:count], context.model, context.model, layout=LAYOUT)
    return torch.cat([GaugeFlip(turn)(view).rows, rows[count:]])


def product(row, model):
    parts = LAYOUT.views(model + row)
    return parts["q.lora_B.default.weight"] @ parts["q.lora_A.default.weight"]


@pytest.mark.parametrize("turn", ["signs", "permutation", "rotation"])
def test_turned_rows_do_exactly_what_honest_ones_do(turn):
    rows, context = world()
    sent = flipped(rows, context, turn=turn)
    for row, other in zip(rows, sent, strict=True):
        assert torch.allclose(product(row, context.model), product(other, context.model), atol=1e-5)


def test_scores_and_choice_do_not_see_the_gauge():
    rows, context = world()
    rule = ProductSpace(Krum())
    honest, fooled = rule(rows, context), rule(flipped(rows, context), context)
    assert torch.allclose(honest.scores, fooled.scores, rtol=1e-4)
    assert torch.equal(honest.accepted, fooled.accepted)
    plain = Krum()(flipped(rows, context), context).scores
    assert plain[:2].min() > 10 * plain[2:].max()  # to factors they are far out


def test_averaging_survives_what_ruins_plain_averaging():
    """Two of seven with opposite signs: the mean of B and of A shrinks, that of B A does not."""
    rows, context = world()
    sent = flipped(rows, context)
    wanted = torch.stack([product(row, context.model) for row in rows]).mean(0)

    def error(rule):
        return (product(rule(sent, context).vector, context.model) - wanted).norm() / wanted.norm()

    assert error(ProductSpace(FedAvg())) < 0.02 and error(FedAvg()) > 0.5


def test_a_trusted_update_is_a_point_as_well():
    rows, context = world()
    context = Context(**{**vars(context), "root_update": rows.mean(0)})
    found = ProductSpace(FLTrust(space="update"))(flipped(rows, context), context)
    assert found.accepted.all()
    assert ProductSpace(FLTrust(space="update")).needs == {"root_update"}


def test_refusals():
    rows, context = world()
    with pytest.raises(ConfigError, match="wrap krum"):
        ProductSpace(Median())
    with pytest.raises(ConfigError, match="without layout or model"):
        ProductSpace(Krum())(rows, Context(byzantine_count=1))
    plain = Layout.of({"w": (LAYOUT.size,)})
    with pytest.raises(ConfigError, match="peft=lora"):
        ProductSpace(Krum())(rows, Context(model=context.model, layout=plain))
    with pytest.raises(ConfigError, match="peft=lora"):
        GaugeFlip()(View(1, 7, rows[:2], context.model, context.model, layout=plain))
