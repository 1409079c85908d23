"""Fang: the Krum form is selected by Krum, the trim form lies beyond the benign extreme."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.fang import Fang
from attacks.fang_krum import FangKrum
from attacks.fang_trim import FangTrim
from defenses.krum import Krum
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Knowledge
from tests.attacks.views import crowd, grant, view


@pytest.mark.parametrize("seed", range(6))
def test_krum_selects_the_row_and_not_twice_lambda(seed):
    given_view = crowd(seed=seed, family="distance", spread=2.0)
    crafted = FangKrum()(given_view)
    for rows, mine in ((crafted.rows, True), (crafted.rows * 2, False)):
        verdict = Krum()(torch.cat([rows, given_view.benign]), given_view.context)
        assert bool(verdict.accepted[:4].any()) is mine
    mean = given_view.benign.double().mean(dim=0)
    assert torch.equal(crafted.rows[0].sign().double(), -mean.sign())
    assert crafted.rows[0].abs().unique().numel() == 1


def test_first_lambda_by_hand():
    """Benign 1, 2, 4 (d = 1), m = 1, n = 4: k = n-m-2 = 1 nearest, squared 1, 1, 4; over
    (n-2m-1) d = 1: sqrt(1) + max|b| = 1 + 4 = 5. At -5: score (1+5)^2 = 36 > 1, halve until the
    row is nearer to 1 than 1: never (it moves to 0): the last lambda below the stop is sent."""
    given_view = view([[0.0]], [[1.0], [2.0], [4.0]])
    crafted = FangKrum(stop=1e-2)(given_view)
    assert crafted.notes["lambda"] == pytest.approx(5 * 0.5**9)
    assert crafted.rows.item() == pytest.approx(-5 * 0.5**9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(1.1, 10))
def test_trim_rows_lie_between_the_extreme_and_b_times_it(seed, b):
    """Opposite to the mean's sign; away from zero up to b times, towards zero down to 1/b."""
    generator = torch.Generator().manual_seed(seed)
    benign = torch.randn(9, 30, generator=generator, dtype=torch.float64)
    given_view = view(benign[:3], benign[3:])
    rows, seen = FangTrim(b=b)(given_view).rows, benign[3:]
    low, high, down = seen.amin(dim=0), seen.amax(dim=0), seen.mean(dim=0) >= 0
    assert (rows[:, down] <= low[down]).all() and (rows[:, ~down] >= high[~down]).all()
    near = torch.where(down, low, high)
    inner, outer = near.abs() / b, near.abs() * b
    assert ((rows.abs() >= inner - 1e-12) & (rows.abs() <= outer + 1e-12)).all()
    assert not torch.equal(rows[0], rows[1])


def test_trim_by_hand():
    """Columns (2, 4): below the minimum, in [1, 2]; (-4, -2): above the maximum, in [-2, -1];
    (-1, 4): below -1, in [-2, -1]; (1, -4): above 1, in [1, 2]."""
    benign = [[2.0, -4.0, -1.0, 1.0], [4.0, -2.0, 4.0, -4.0]]
    rows = FangTrim(b=2.0)(view([[0.0] * 4] * 50, benign)).rows
    for column, (low, high) in enumerate([(1, 2), (-2, -1), (-2, -1), (1, 2)]):
        assert rows[:, column].min() >= low and rows[:, column].max() <= high
        assert rows[:, column].max() - rows[:, column].min() > 0.7


def test_partial_knowledge_needs_only_the_own_rows():
    attack = FangTrim(sees="own")
    assert attack.knowledge == Knowledge.OWN and FangTrim().knowledge == Knowledge.UPDATES
    given_view = grant(crowd(), attack.knowledge)
    rows, own = attack(given_view).rows.double(), given_view.own.double()
    centre, spread = own.mean(dim=0), own.std(dim=0)
    away = (rows - centre).abs() / spread
    assert (away >= 3 - 1e-3).all() and (away <= 4 + 1e-3).all()
    assert ((rows < centre) == (centre >= 0)).all()


def test_auto_takes_the_form_of_the_family():
    near = crowd(family="distance")
    assert torch.equal(Fang()(near).rows, FangKrum()(near).rows)
    assert torch.equal(Fang()(crowd()).rows, FangTrim()(crowd()).rows)
    assert torch.equal(Fang(form="krum")(crowd()).rows, FangKrum()(crowd()).rows)
    forced = Fang(form="trim")(crowd(family="distance")).rows
    assert torch.equal(forced, FangTrim()(crowd()).rows)


def test_small_federations_and_zero_rows():
    assert FangKrum()(view([[1.0]], [[0.0]])).rows.item() == 0
    assert FangKrum()(view([[1.0]] * 3, [[2.0], [2.0]])).rows.shape == (3, 1)
    assert not FangTrim()(view([[1.0]], [[0.0], [0.0]])).rows.any()


def test_refusals():
    with pytest.raises(ConfigError, match=r"FangTrim.b is 1.0; use a number in \(1, inf\)"):
        Fang(b=1.0)
    with pytest.raises(ConfigError, match=r"FangKrum.stop"):
        Fang(stop=0.0)
    with pytest.raises(ConfigError, match=r"Fang.form is 'bulyan'; use one of: auto, krum, trim"):
        Fang(form="bulyan")
    with pytest.raises(ConfigError, match=r"FangKrum looks at benign rows"):
        Fang(form="krum")(replace(crowd(), benign=None))
