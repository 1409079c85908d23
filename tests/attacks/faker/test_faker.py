"""Faker as a whole: rows meet the rule's own test, every mode, every edge, every refusal."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.faker import Faker
from defenses.fltrust import FLTrust
from defenses.norm_filter import NormFilter
from fedalign.core.errors import ConfigError
from fedalign.core.threat import Knowledge
from fedalign.core.vectors import Layout
from tests.attacks.views import crowd, grant, view

SOLVERS = ("balance", "norm", "distance", "cosine", "flip", "2d", "product")


def both(given_view, attack):
    """Honest and crafted rows as the rule sees them, float64."""
    crafted = attack(given_view).rows
    return given_view.in_space(given_view.own).double(), given_view.in_space(crafted).double()


def cosine(a, b):
    return (a * b).sum(dim=1) / a.norm(dim=1) / b.norm(dim=1)


# ------------------------------------------------------------------ budgets on real rows


@pytest.mark.parametrize("space", ["model", "update"])
@pytest.mark.parametrize("solver", ["norm", "balance", "product", "2d", "cosine", "flip"])
def test_the_norm_survives_float32(solver, space):
    """Item 7: 0.8 M <= |w'| <= M after rounding; cosine and flip keep the norm itself."""
    honest, crafted = both(crowd(space=space), Faker(solver=solver))
    slack = 1 + (1e-6 if solver in ("cosine", "flip") else 0)
    assert (crafted.norm(dim=1) <= honest.norm(dim=1) * slack).all()
    assert (crafted.norm(dim=1) >= 0.89 * honest.norm(dim=1)).all()


@pytest.mark.parametrize("solver", ["cosine", "flip", "2d"])
@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_the_cosine_floor_holds_on_rows(solver, tau):
    honest, crafted = both(crowd(space="model"), Faker(solver=solver, tau=tau))
    assert (cosine(honest, crafted) >= tau - 1e-5).all()
    assert (cosine(honest, crafted) <= tau + 0.05).all()


def test_the_own_radius_is_the_distance_to_the_global_model():
    given_view = crowd(space="model", family="distance")
    honest, crafted = both(given_view, Faker(solver="distance"))
    radius = float(given_view.own[0].double().norm())
    assert float((crafted[0] - honest[0]).norm()) == pytest.approx(radius, rel=1e-5)


def test_the_norm_filter_accepts_and_drowns_in_it():
    given_view = crowd(space="model")
    rows = Faker(solver="norm")(given_view).rows
    verdict = NormFilter()(torch.cat([rows, given_view.benign]), given_view.context)
    assert verdict.accepted.all()
    honest = NormFilter()(torch.cat([given_view.own, given_view.benign]), given_view.context)
    moved = float((verdict.vector - honest.vector).norm())
    assert moved > 5 * float(honest.vector.norm()) * 0.2


@pytest.mark.parametrize("tau,trusted", [(0.5, True), (0.1, True), (-0.5, False)])
def test_fltrust_trusts_flips_above_a_cosine_of_zero(tau, trusted):
    """Item 5: accepted for tau > 0, dropped for more than half of the energy flipped."""
    given_view = crowd(space="model")
    context = replace(given_view.context, root_update=given_view.own[0], byzantine_count=0)
    rows = Faker(solver="flip", tau=tau)(given_view).rows
    assert bool(FLTrust(space="model")(rows, context).accepted.all()) is trusted


def test_auto_takes_the_solver_of_the_family():
    expected = {"norm": "norm", "distance": "distance", "cosine": "flip", "coordinate": "2d"}
    for family, solver in {**expected, "other": "2d"}.items():
        crafted = Faker()(crowd(family=family))
        assert crafted.notes["solver"] == solver
        same = Faker(solver=solver)(crowd(family=family))
        assert torch.equal(crafted.rows, same.rows)


def test_auto_with_full_knowledge_bisects_only_against_distance_rules():
    attack = Faker(dist_bound="rule")
    assert attack.knowledge == Knowledge.FULL
    near = attack(crowd(family="distance")).rows
    assert torch.equal(
        near, Faker(solver="distance", dist_bound="rule")(crowd(family="distance")).rows
    )
    other = attack(crowd(family="norm", space="model")).rows
    assert torch.equal(other, Faker(solver="norm")(crowd(family="norm", space="model")).rows)


# ------------------------------------------------------------------ knowledge, determinism


@pytest.mark.parametrize("solver", (*SOLVERS, "auto"))
@pytest.mark.parametrize("family", ["norm", "distance", "cosine", "other"])
def test_its_own_rows_are_enough(solver, family):
    attack = Faker(solver=solver)
    assert attack.knowledge == Knowledge.OWN
    blind = grant(crowd(family=family), attack.knowledge)
    assert blind.benign is None and blind.context is None
    assert torch.isfinite(attack(blind).rows).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_view_same_bits_and_nothing_is_written_to_it(solver):
    first, second = crowd(space="model"), crowd(space="model")
    assert torch.equal(Faker(solver=solver)(first).rows, Faker(solver=solver)(second).rows)
    assert torch.equal(first.own, second.own) and torch.equal(first.model, second.model)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float64_rows_stay_float64_and_untouched(solver):
    own = torch.randn(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = own.clone()
    crafted = Faker(solver=solver)(view(own)).rows
    assert crafted.dtype == torch.float64 and torch.equal(own, before)


# ------------------------------------------------------------------ edges


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from((*SOLVERS, "auto")),
    st.integers(1, 4),
    st.integers(1, 90),
    st.sampled_from([0.0, 0.5, 1.0, -1.0]),
    st.integers(0, 10**6),
    st.sampled_from(["norm", "distance", "cosine", "other"]),
)
def test_any_shape_gives_finite_rows_within_the_norm(solver, m, columns, tau, seed, family):
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(m, columns, generator=generator)
    own[torch.rand(m, columns, generator=generator) < 0.2] = 0.0
    crafted = Faker(solver=solver, tau=tau)(view(own, family=family)).rows
    assert crafted.shape == own.shape and torch.isfinite(crafted).all()
    if solver not in ("distance", "auto"):
        assert (crafted.norm(dim=1) <= own.norm(dim=1) * (1 + 1e-5)).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_rows_stay_zero(solver):
    assert not Faker(solver=solver)(view(torch.zeros(2, 5))).rows.any()


def test_one_parameter():
    """d = 1: one group. norm flips it, flip keeps it at tau > -1, distance shrinks it to 0."""
    own = [[3.0]]
    assert Faker(solver="norm")(view(own)).rows.item() == pytest.approx(-3, rel=1e-5)
    assert Faker(solver="flip")(view(own)).rows.item() == 3
    assert Faker(solver="distance")(view(own)).rows.item() == pytest.approx(0, abs=1e-5)
    assert Faker(solver="cosine")(view(own)).rows.item() == pytest.approx(3)
    assert Faker(solver="balance")(view(own)).rows.item() == pytest.approx(3, rel=1e-5)


def test_constant_pixels_do_not_count():
    """e_g = 0: the balancing scalar is taken among the weights that are not zero."""
    own = torch.tensor([[3.0, 4.0, 0.0]])
    crafted = Faker(solver="balance", groups=3)(view(own)).rows[0]
    assert crafted[0] == -1.5 and crafted[2] == 0
    assert float(crafted.norm()) == pytest.approx(5, rel=1e-5)


def test_default_groups_are_min_of_64_and_d_and_more_than_d_are_refused():
    assert Faker(solver="norm")(view(torch.ones(1, 3))).rows.shape == (1, 3)
    with pytest.raises(ConfigError, match=r"groups=65 on 3 parameters: use a number from 1 to 3"):
        Faker(solver="norm", groups=65)(view(torch.ones(1, 3)))


def test_balance_draws_when_asked():
    drawn = Faker(solver="balance", drawn=None)(crowd(space="model")).rows
    assert not torch.equal(drawn, Faker(solver="balance")(crowd(space="model")).rows)
    honest, crafted = both(crowd(space="model"), Faker(solver="balance", drawn=None))
    assert crafted.norm(dim=1).numpy() == pytest.approx(honest.norm(dim=1).numpy(), rel=1e-5)


def test_balance_can_restore_the_distance_instead():
    given_view = crowd(space="model")
    honest, crafted = both(given_view, Faker(solver="balance", dist_bound="prev_global"))
    far = (crafted - honest).norm(dim=1)
    own = given_view.own.double().norm(dim=1)
    assert far.numpy() == pytest.approx(own.numpy(), rel=1e-4)


def test_absolute_bounds():
    honest, crafted = both(crowd(), Faker(solver="norm", norm_bound=2.5))
    assert crafted.norm(dim=1).numpy() == pytest.approx(2.5, rel=1e-5)
    _, crafted = both(crowd(), Faker(solver="2d", norm_bound=None, dist_bound=0.25, tau=-1.0))
    assert (crafted - honest).norm(dim=1).numpy() == pytest.approx(0.25, rel=1e-4)


def test_2d_meets_three_budgets_at_once():
    given_view = crowd(space="model")
    honest, crafted = both(given_view, Faker(solver="2d", dist_bound="prev_global", tau=0.3))
    own = given_view.own.double().norm(dim=1)
    assert (crafted.norm(dim=1) <= honest.norm(dim=1)).all()
    assert ((crafted - honest).norm(dim=1) <= own * (1 + 1e-5)).all()
    assert (cosine(honest, crafted) >= 0.3).all()
    assert (crafted != honest).any()


def test_relative_objective_flips_everything():
    honest, crafted = both(crowd(space="model"), Faker(solver="norm", objective="relative"))
    torch.testing.assert_close(crafted, -honest, rtol=1e-5, atol=1e-5)


def test_random_signs_keep_the_radius():
    given_view = crowd(family="distance")
    crafted = Faker(solver="distance", signs="random")(given_view).rows
    radius = float((crafted[0] - given_view.own[0]).double().norm())
    assert radius == pytest.approx(float(given_view.own[0].double().norm()), rel=1e-5)


@pytest.mark.parametrize("grouping", ["permuted", "contiguous", "tensor"])
def test_groupings(grouping):
    layout = Layout.of({"a": (10, 20), "b": (100,)})
    honest, crafted = both(crowd(space="model", layout=layout), Faker("norm", grouping=grouping))
    assert crafted.norm(dim=1).numpy() == pytest.approx(honest.norm(dim=1).numpy(), rel=1e-5)
    if grouping == "tensor":
        ratio = (crafted / honest)[:, :200]
        assert float((ratio - ratio[:, :1]).abs().max()) < 1e-3


# ------------------------------------------------------------------ variants


def test_the_sybil_family_looks_alike_to_a_rule_but_not_to_each_other():
    """Item 9 on rows: equal norm and cosine to the shared base, mutual cosines below one."""
    given_view = crowd(space="model")
    crafted = given_view.in_space(Faker(solver="cosine", sybil_angle=0.8)(given_view).rows).double()
    base = given_view.in_space(given_view.own)[:1].double().expand_as(crafted)
    assert crafted.norm(dim=1).numpy() == pytest.approx(float(base[0].norm()), rel=1e-5)
    assert cosine(base, crafted).numpy() == pytest.approx(0.5, abs=1e-5)
    mutual = crafted @ crafted.T / float(base[0].norm()) ** 2
    expected = 0.25 + 0.75 * np.cos(0.8) ** 2
    assert mutual[~torch.eye(4, dtype=torch.bool)].numpy() == pytest.approx(expected, abs=1e-4)


def test_per_tensor_keeps_the_norm_of_every_tensor():
    layout = Layout.of({"a": (10, 20), "b": (97,), "c": (3,)})
    given_view = crowd(space="model", layout=layout)
    for solver in ("norm", "2d", "flip", "distance", "balance"):
        honest, crafted = both(given_view, Faker(solver=solver, adaptive="per_tensor"))
        for part in layout.parts if solver != "distance" else ():
            kept, sent = honest[:, part.span].norm(dim=1), crafted[:, part.span].norm(dim=1)
            assert sent.numpy() == pytest.approx(kept.numpy(), rel=0.11)
        assert not torch.equal(honest, crafted)


def test_per_tensor_shares_absolute_bounds_out():
    layout = Layout.of({"a": (200,), "b": (100,)})
    attack = Faker(solver="norm", adaptive="per_tensor", norm_bound=3.0)
    _, crafted = both(crowd(space="model", layout=layout), attack)
    assert float(crafted[0].norm()) == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_frozen_tensors_do_not_move_and_budgets_count_them(solver):
    layout = Layout.of({"body.weight": (200,), "head.weight": (100,)})
    given_view = crowd(space="model", layout=layout)
    attack = Faker(solver=solver, freeze=["head*"], cooperate=False)
    honest, crafted = both(given_view, attack)
    torch.testing.assert_close(crafted[:, 200:], honest[:, 200:], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(crafted[:, :200], honest[:, :200], atol=1e-3)
    if solver != "distance":
        assert (crafted.norm(dim=1) <= honest.norm(dim=1) * (1 + 1e-6)).all()
    if solver in ("cosine", "flip", "2d"):
        assert (cosine(honest, crafted) >= 0.5 - 1e-5).all()


def test_everything_frozen_is_honest():
    layout = Layout.of({"a": (300,)})
    given_view = crowd(layout=layout)
    assert torch.equal(Faker(freeze=("*",))(given_view).rows, given_view.own)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        (dict(solver="best"), "Faker.solver is 'best'; use one of: auto, balance, norm"),
        (dict(objective="delta"), "Faker.objective"),
        (dict(grouping="random"), "Faker.grouping"),
        (dict(signs="up"), "Faker.signs"),
        (dict(adaptive="layer"), "Faker.adaptive is 'layer'; use one of: null, per_tensor"),
        (dict(tau=1.5), r"Faker.tau is 1.5; use a number in \[-1, 1\]"),
        (dict(tau=float("nan")), "Faker.tau is nan"),
        (dict(a_max=1.0), r"Faker.a_max is 1.0; use a number in \(1, inf\)"),
        (dict(margin=-0.1), "Faker.margin"),
        (dict(norm_floor=1.1), "Faker.norm_floor"),
        (dict(groups=0), "Faker.groups"),
        (dict(norm_bound=0.0), "Faker.norm_bound"),
        (dict(norm_bound="mine"), "Faker.norm_bound is 'mine'; use one of: own, null"),
        (dict(dist_bound="far"), "Faker.dist_bound"),
        (dict(solver="norm", norm_bound=None), "needs a norm_bound"),
        (dict(solver="norm", dist_bound="rule"), "bisects the distance solver"),
        (dict(dist_bound="rule", freeze=["a"]), "drop adaptive and freeze"),
        (dict(solver="flip", sybil_angle=0.8), "use solver=cosine or 2d"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Faker(**arguments)


def test_missing_layout_and_unknown_tensor_are_said():
    with pytest.raises(ConfigError, match=r"has no layout"):
        Faker(adaptive="per_tensor")(crowd())
    with pytest.raises(ConfigError, match=r"freeze='x\*' names no tensor of: a"):
        Faker(freeze=["x*"])(crowd(layout=Layout.of({"a": (300,)})))


def test_whitebox_without_benign_rows_is_said():
    with pytest.raises(ConfigError, match=r"grant Knowledge.UPDATES"):
        Faker(solver="distance", dist_bound="rule")(replace(crowd(), benign=None))
