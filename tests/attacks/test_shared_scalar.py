"""LA and MB with one shared scalar: the test binds, closed form equals search, the rule decides."""

from dataclasses import replace

import pytest
import torch

from attacks.la_shared import LaShared
from attacks.mb_shared import MbShared
from defenses.krum import Krum
from defenses.norm_filter import NormFilter
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Knowledge
from tests.attacks.views import crowd, grant, rows, view


def seen(given_view, attack):
    crafted = attack(given_view)
    honest = given_view.in_space(given_view.own).double()
    return honest, given_view.in_space(crafted.rows).double(), crafted.notes["lambda"]


@pytest.mark.parametrize("space", ["model", "update"])
@pytest.mark.parametrize("family", ["norm", "distance", "cosine", "other"])
def test_la_meets_the_test_of_the_family_exactly(family, space):
    given_view = crowd(family=family, space=space)
    honest, crafted, sizes = seen(given_view, LaShared(tau=0.5))
    assert all(size > 0 for size in sizes)
    if family == "norm":
        expected, got = honest.norm(dim=1), crafted.norm(dim=1)
    elif family == "cosine":
        got = (honest * crafted).sum(dim=1) / honest.norm(dim=1) / crafted.norm(dim=1)
        expected = torch.full_like(got, 0.5)
    else:
        expected, got = given_view.own.double().norm(dim=1), (crafted - honest).norm(dim=1)
    assert got.numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    step = (crafted - honest).abs()
    assert step.numpy() == pytest.approx(step[:, :1].expand_as(step).numpy(), rel=1e-2)


@pytest.mark.parametrize("family", ["norm", "distance", "cosine"])
def test_la_search_finds_the_closed_form(family):
    given_view = crowd(family=family, space="model")
    closed = LaShared()(given_view).notes["lambda"]
    again = crowd(family=family, space="model")
    searched = LaShared(search="published", steps=30)(again).notes["lambda"]
    assert searched == pytest.approx(closed, rel=2e-3, abs=1e-4)  # float32 norms


def test_la_by_hand():
    """w = 3, s = -1 (against w): |3 - lambda| <= 3 up to lambda = 6, so w' = -3."""
    assert LaShared()(view([[3.0]], family="norm")).rows.item() == -3


def test_la_works_with_the_rule_and_its_own_rows():
    attack = LaShared(test="rule")
    given_view = crowd(family="norm", space="model", rule=NormFilter())
    blind = grant(given_view, attack.knowledge)
    assert blind.benign is None
    crafted = attack(blind)
    assert torch.isfinite(crafted.rows).all() and crafted.notes["lambda"][0] > 0
    verdict = NormFilter()(torch.cat([crafted.rows, given_view.benign]), given_view.context)
    assert verdict.accepted[:4].any()


def test_la_stays_honest_where_the_rule_never_accepts():
    """Krum prefers the stand-ins, which repeat each other."""
    given_view = crowd(clients=30, family="distance", rule=Krum())
    crafted = LaShared(test="rule")(given_view)
    assert torch.equal(crafted.rows, given_view.own)


@pytest.mark.parametrize("family", ["norm", "distance", "cosine"])
def test_la_leaves_zero_rows_alone(family):
    assert not LaShared()(view(torch.zeros(2, 3), family=family)).rows.any()


@pytest.mark.parametrize("space", ["model", "update"])
def test_mb_reaches_the_farthest_benign_row(space):
    """|lambda w - mean| = max_i |w_i - mean|, and lambda below 1."""
    given_view = crowd(space=space)
    _, crafted, sizes = seen(given_view, MbShared())
    benign = given_view.in_space(given_view.benign).double()
    far = (crafted - benign.mean(dim=0)).norm(dim=1)
    widest = (benign - benign.mean(dim=0)).norm(dim=1).max()
    reached = torch.tensor(sizes) < 1
    assert far[reached].numpy() == pytest.approx(float(widest), rel=1e-3)
    assert reached.any()


def test_mb_by_hand():
    """mean 0 of -2, 2: |lambda 4| <= 2 down to lambda = -1/2: x' = -2. Own row alone far off: 1."""
    assert MbShared()(view([[4.0]], [[-2.0], [2.0]])).rows.item() == -2
    assert MbShared()(view([[1.0, 0.0]], [[0.0, 5.0], [0.0, 5.0]])).rows.tolist() == [[1.0, 0.0]]
    assert MbShared()(view([[0.0]], [[1.0], [2.0]])).rows.item() == 0


def test_mb_search_finds_the_root():
    given_view = crowd(spread=1.5)
    closed = MbShared()(given_view).notes["lambda"]
    searched = MbShared(search="published")(given_view).notes["lambda"]
    assert searched == pytest.approx(closed, abs=1e-4)


def test_rule_aware_mb_defeats_the_norm_filter_with_a_negated_model():
    """-w passes 0.8 M <= |w| <= M: lambda lies near -1, far below what the distance proxy dares."""
    given_view = crowd(space="model", family="norm", rule=NormFilter())
    attack = MbShared(proxy="rule")
    assert attack.knowledge == Knowledge.FULL
    crafted = attack(given_view)
    assert -1.15 < crafted.notes["lambda"][0] < -0.8
    verdict = NormFilter()(torch.cat([given_view.benign, crafted.rows]), given_view.context)
    assert verdict.accepted[-4:].all()
    assert crafted.notes["lambda"][0] < min(MbShared()(given_view).notes["lambda"]) - 0.3


def test_rule_aware_mb_stays_honest_where_nothing_passes():
    given_view = crowd(rule=NormFilter(bound=1e-9, space="update"))
    crafted = MbShared(proxy="rule")(given_view)
    assert torch.equal(crafted.rows, given_view.own)


def test_refusals():
    with pytest.raises(ConfigError, match=r"LaShared.test is 'norm'; use one of: family, rule"):
        LaShared(test="norm")
    with pytest.raises(ConfigError, match=r"use search='closed' with it"):
        LaShared(test="rule", search="published")
    with pytest.raises(ConfigError, match=r"MbShared.proxy"):
        MbShared(proxy="norm")
    with pytest.raises(ConfigError, match=r"MbShared.steps"):
        MbShared(steps=1)
    with pytest.raises(ConfigError, match=r"grant Knowledge.RULE"):
        MbShared(proxy="rule")(replace(crowd(), rule=None))
    with pytest.raises(ConfigError, match=r"MbShared looks at benign rows"):
        MbShared()(view(rows([[1.0]])))
