"""Krum against Faker: simulation on distances, the sufficient condition, the largest radius."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks._krum import neighbours, picked
from attacks.faker import Faker
from defenses.krum import Krum
from tests.attacks.views import crowd


def chosen(view, rows):
    """Which row of [crafted, benign] the real Krum takes."""
    verdict = Krum()(torch.cat([rows, view.benign]), view.context)
    return int(verdict.accepted.nonzero()[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.2, 3))
def test_the_simulation_agrees_with_krum(seed, m, size):
    generator = torch.Generator().manual_seed(seed)
    benign = torch.randn(12 - m, 5, generator=generator, dtype=torch.float64)
    crafted = size * torch.randn(5, generator=generator, dtype=torch.float64)
    updates = torch.cat([benign, crafted.expand(m, -1)])
    took = int(Krum(byzantine_count=m)(updates).accepted.nonzero()[0]) >= len(benign)
    among = torch.cdist(benign, benign).square().numpy()
    far = (benign - crafted).square().sum(dim=1)[None].numpy()
    assert bool(picked(among, far, m, 12 - m - 2)[0]) == took


def test_simulation_by_hand():
    """b = 0, 1, 3 on a line, one crafted at c, k = 1: benign scores 1, 1, 4 or the square to c."""
    b = np.array([0.0, 1.0, 3.0])
    among, far = (b[:, None] - b) ** 2, (b - np.array([[0.5], [0.9], [2.5]])) ** 2
    # c = .5 ties with b at .25; c = .9 ties with b at .01; c = 2.5 ties with b at .25
    assert picked(among, far, 1, 1).tolist() == [False, False, False]
    # two clones: their score is 0, everybody else's positive
    assert picked(among, far, 2, 1).tolist() == [True, True, True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 1.2))
def test_the_sufficient_condition_implies_selection(seed, share):
    """sum_{l<=k} (R + d_l)^2 < min_i (n-m-2 smallest of |b_i-b_j|^2, m copies of max(|b_i-w|-R,0)^2),
    k = n - 2m - 1: then Krum picks the clones at distance R."""
    generator = torch.Generator().manual_seed(seed)
    n, m = 14, 3
    benign = torch.randn(n - m, 20, generator=generator, dtype=torch.float64)
    w = 0.3 * torch.randn(20, generator=generator, dtype=torch.float64)
    step = torch.randn(20, generator=generator, dtype=torch.float64)
    radius = share * float(w.norm())
    near = (benign - w).norm(dim=1)
    left = float((radius + near.sort().values[: n - 2 * m - 1]).square().sum())
    among = torch.cdist(benign, benign).square().fill_diagonal_(float("inf"))
    lower = (near - radius).clamp(min=0).square()[:, None].expand(-1, m)
    right = torch.cat([among, lower], dim=1).sort(dim=1).values[:, : n - m - 2].sum(dim=1).min()
    if left < float(right):
        crafted = w + radius * step / step.norm()
        updates = torch.cat([benign, crafted.expand(m, -1)])
        assert int(Krum(byzantine_count=m)(updates).accepted.nonzero()[0]) >= n - m


@pytest.mark.parametrize("seed", range(4))
def test_whitebox_rows_are_selected_and_a_little_more_is_not(seed):
    view = crowd(seed=seed, family="distance")
    attack = Faker(solver="distance", dist_bound="rule")
    rows = attack(view).rows
    assert (rows == rows[0]).all()
    assert chosen(view, rows) < len(rows)
    radius = float((rows[0] - view.own[0]).norm())
    farther = view.own[:1] + (rows - view.own[:1]) * 1.02
    assert chosen(view, farther) >= len(rows)
    own = Faker(solver="distance")(view).rows
    assert radius != pytest.approx(float((own[0] - view.own[0]).norm()), rel=1e-3)


def test_a_single_attacker_without_clones_is_rarely_selected():
    """Alone it must be more central than everybody else."""
    hits = sum(
        chosen(view, Faker(solver="distance")(view).rows) == 0
        for view in (crowd(seed=s, attackers=1, clients=15, spread=1.0) for s in range(30))
    )
    assert hits <= 6


def test_clones_share_every_bit_and_without_cooperation_they_do_not():
    view = crowd(family="distance")
    assert torch.cdist(rows := Faker(solver="distance")(view).rows, rows).max() == 0
    alone = Faker(solver="distance", cooperate=False)(view).rows
    assert not torch.equal(alone[0], alone[1])


def test_neighbours_follow_the_server_and_never_fall_below_one():
    assert neighbours(crowd()) == 20 - 4 - 2
    assert neighbours(replace(crowd(), context=None)) == 14
    assert neighbours(replace(crowd(), clients=5)) == 1


def test_where_krum_never_picks_it_the_own_radius_is_used():
    """A far outlier is never picked: R falls back to |w_g - w|."""
    view = crowd(attackers=1, family="distance")
    view = replace(view, own=view.own + 100.0)
    rows = Faker(solver="distance", dist_bound="rule")(view).rows
    expected = float(view.own[0].double().norm())
    assert float((rows[0] - view.own[0]).double().norm()) == pytest.approx(expected, rel=1e-4)
