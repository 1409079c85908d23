"""Attacks of one line: the formula on numbers a pencil can check."""

import numpy as np
import pytest
import torch

from attacks.constant import Constant
from attacks.fitted_ipm import FittedIpm
from attacks.gaussian import Gaussian
from attacks.ipm import InnerProductManipulation
from attacks.mpaf import Mpaf
from attacks.negated import Negated
from attacks.none import NoAttack
from attacks.random_sign import RandomSign
from attacks.rejected import Rejected
from attacks.sign_flip import SignFlip
from fedalign.core.contracts import Aggregate
from fedalign.core.errors import ConfigError
from tests.attacks.views import crowd, rows, view


def mean_of(matrix):
    return Aggregate.mean(matrix, torch.ones(len(matrix), dtype=torch.bool)).vector


def test_nobody_attacks():
    given_view = crowd()
    assert torch.equal(NoAttack()(given_view).rows, given_view.own)


def test_rejected_rows_hold_nothing_but_nan():
    assert Rejected()(crowd()).rows.isnan().all()


def test_sign_flip_scales_backwards():
    assert SignFlip(scale=5.0)(view([[1.0, -2.0]])).rows.tolist() == [[-5.0, 10.0]]
    with pytest.raises(ConfigError, match=r"SignFlip.scale is 0; use a number in \(0, inf\)"):
        SignFlip(scale=0)


@pytest.mark.parametrize("kind,value", [("zero", 0.0), ("inf", float("inf")), ("nan", None)])
def test_constant_rows(kind, value):
    sent = Constant(kind)(view([[1.0, 2.0]])).rows
    assert sent.isnan().all() if value is None else (sent == value).all()


def test_random_rows_stay_inside_their_bound_and_fill_it():
    sent = Constant("random", bound=3.0)(crowd()).rows
    assert sent.abs().max() <= 3 and sent.abs().max() > 2.9 and abs(float(sent.mean())) < 0.2
    with pytest.raises(ConfigError, match=r"Constant.kind is 'one'; use one of: zero, inf, nan"):
        Constant("one")


def test_gaussian_replaces_adds_or_follows_the_own_length():
    given_view = crowd(columns=4000)
    sent = Gaussian(mean=2.0, std=0.5)(given_view).rows
    assert float(sent.mean()) == pytest.approx(2, abs=0.02)
    assert float(sent.std()) == pytest.approx(0.5, abs=0.02)
    relative = Gaussian(relative=0.1, add=True)(given_view).rows - given_view.own
    ratio = relative.norm(dim=1) / given_view.own.norm(dim=1)
    assert ratio.numpy() == pytest.approx(0.1, rel=0.05)
    assert not torch.equal(relative[0], relative[1])
    with pytest.raises(ConfigError, match=r"Gaussian.relative"):
        Gaussian(relative=0.0)


def test_ipm_sends_the_opposite_of_the_mean():
    """mean of (1, 3) and (3, 5) is (2, 4); epsilon 10 gives (-20, -40), epsilon 0 nothing."""
    given_view = view([[9.0, 9.0]] * 2, [[1.0, 3.0], [3.0, 5.0]])
    assert InnerProductManipulation(10.0)(given_view).rows.tolist() == [[-20, -40]] * 2
    assert not InnerProductManipulation(0.0)(given_view).rows.any()
    with pytest.raises(ConfigError, match=r"InnerProductManipulation looks at benign rows"):
        InnerProductManipulation()(view([[1.0]]))


def test_mpaf_moves_a_plain_average_by_m_over_n_lambda():
    """m = 1, n = 4, lambda = 8, w' - w_g = (1, -2), others zero: displacement (2, -4)."""
    given_view = view(
        [[5.0, 5.0]], torch.zeros(3, 2), model=rows([1.0, 1.0]), initial=rows([2.0, -1.0])
    )
    sent = Mpaf(scale=8.0)(given_view).rows
    assert mean_of(torch.cat([sent, given_view.benign])).tolist() == [2.0, -4.0]


@pytest.mark.parametrize("space", ["model", "update"])
def test_controls_keep_the_norm_the_rule_looks_at(space):
    given_view = crowd(space=space)
    length = given_view.in_space(given_view.own).double().norm(dim=1).numpy()
    for attack in (Negated(), FittedIpm(), RandomSign()):
        sent = given_view.in_space(attack(given_view).rows).double()
        assert sent.norm(dim=1).numpy() == pytest.approx(length, rel=1e-5)


def test_negated_is_the_opposite_model():
    """Model 3, update 1: the model 4 becomes -4, so the update is -7."""
    given_view = view([[1.0]], model=rows([3.0]), space="model")
    assert Negated()(given_view).rows.item() == -7
    assert Negated()(view([[1.0]])).rows.item() == -1


def test_fitted_ipm_by_hand():
    """w_g = (3, 0), update (0, 4): w = (3, 4) of norm 5; (3, -4 c) has norm 5 at c = 1. In update
    space c = |u| / |mean| = 1 as well."""
    own = [[0.0, 4.0]]
    sent = FittedIpm()(view(own, model=rows([3.0, 0.0]), space="model")).rows
    assert sent.tolist() == [[0.0, -4.0]]
    assert FittedIpm()(view(own)).rows.tolist() == [[0.0, -4.0]]


def test_fitted_ipm_where_no_length_fits():
    """w_g = (5, 0), update (-4, 1e-9): w' is farther from 0 than 1 whatever c... the shortest
    point on the line, scaled to |w| = 1; without any update w_g itself has the right norm."""
    given_view = view([[-4.0, 3.0]], model=rows([5.0, 0.0]), space="model")
    sent = given_view.in_space(FittedIpm()(given_view).rows)
    assert float(sent.norm()) == pytest.approx(float((rows([1.0, 3.0])).norm()), rel=1e-6)
    still = view([[0.0, 0.0]], model=rows([5.0, 0.0]), space="model")
    assert not FittedIpm()(still).rows.any()
    assert not FittedIpm()(view([[0.0, 0.0]])).rows.any()


def test_random_sign_has_one_magnitude():
    sent = RandomSign()(view([[3.0, 4.0, 0.0, 0.0]])).rows
    assert np.unique(sent.abs().numpy()).tolist() == [2.5]
