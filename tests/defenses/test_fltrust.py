"""FLTrust against the frozen table, by hand on models, and where nothing can be trusted."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.fltrust import FLTrust
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, ToleranceError


def oracle_rows() -> torch.Tensor:
    """X[i, j] = sin(1 + 1.3 i + 0.7 j + 0.11 i j), row 6 three times as long."""
    i = torch.arange(7, dtype=torch.float64)[:, None]
    j = torch.arange(4, dtype=torch.float64)[None]
    rows = torch.sin(1 + 1.3 * i + 0.7 * j + 0.11 * i * j)
    rows[6] *= 3
    return rows


VECTOR = torch.tensor([0.529595, 0.905313, 0.510130, -0.263040], dtype=torch.float64)
TRUST = torch.tensor([1, 0.068110, 0, 0, 0.752555, 0.431628, 0], dtype=torch.float64)


def test_updates_give_the_frozen_oracle():
    rows = oracle_rows()
    result = FLTrust(space="update")(rows, Context(root_update=rows[0]))
    torch.testing.assert_close(result.vector, VECTOR, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.scores, TRUST, atol=1e-6, rtol=0)
    torch.testing.assert_close(result.coefficients @ rows, result.vector)
    assert result.accepted.tolist() == [True, True, False, False, True, True, False]


def test_models_give_the_same_oracle_where_the_models_are_its_rows():
    """Rows are X - m, so models are X and the reference model is X[0]; the result is A(X) - m."""
    rows, model = oracle_rows(), torch.tensor([1.0, -2.0, 3.0, 4.0], dtype=torch.float64)
    before = rows.clone()
    context = Context(root_update=rows[0] - model, model=model)
    result = FLTrust(space="model")(rows - model, context)
    torch.testing.assert_close(result.vector, VECTOR - model, atol=1e-6, rtol=0)
    assert result.coefficients is None  # the scaled models are no combination of updates
    assert torch.equal(rows, before)


def test_on_models_by_hand():
    """m = (3, 0), root update (0, 4): reference (3, 4), length 5. Models (3, 4), (6, 8), (-3, -4):
    cosines 1, 1, -1, so the aggregate is ((3, 4) + (6, 8) * 5/10) / 2 = (3, 4), the update (0, 4)."""
    updates = torch.tensor([[0.0, 4.0], [3.0, 8.0], [-6.0, -4.0]])
    context = Context(model=torch.tensor([3.0, 0.0]), root_update=torch.tensor([0.0, 4.0]))
    result = FLTrust()(updates, context)
    torch.testing.assert_close(result.vector, torch.tensor([0.0, 4.0]))
    assert result.scores.tolist() == pytest.approx([1, 1, 0])


def test_the_same_rows_mean_something_else_in_the_other_space():
    """As updates the flipped third row is the only one against (0, 4): cosines 1, 0.936, -0.555."""
    updates = torch.tensor([[0.0, 4.0], [3.0, 8.0], [-6.0, -4.0]])
    context = Context(model=torch.tensor([3.0, 0.0]), root_update=torch.tensor([0.0, 4.0]))
    result = FLTrust(space="update")(updates, context)
    assert result.scores.tolist() == pytest.approx([1, 8 / 73**0.5, 0])


@pytest.mark.parametrize("flipped, accepted", [(0.2, True), (0.45, True), (0.6, False)])
def test_flips_pass_up_to_half_of_the_energy(flipped, accepted):
    """Flipping an energy share phi gives cos = 1 - 2 phi: trusted below 1/2 (spec item 5)."""
    honest = torch.ones(1000)
    signs = torch.where(torch.arange(1000) < 1000 * flipped, -1.0, 1.0)
    result = FLTrust(space="update")(
        torch.stack([honest, honest * signs]), Context(root_update=honest)
    )
    assert bool(result.accepted[1]) is accepted
    assert float(result.scores[1]) == pytest.approx(max(0, 1 - 2 * flipped), abs=1e-12)


def test_weight_of_a_scaled_model_is_the_three_sum_quotient():
    """With g0 = w: cos * |g0| / |w'| = sum(e a) / sum(e a^2), e = w^2, w' = a * w (spec item 5)."""
    w = torch.tensor([3.0, -1.0, 2.0, 0.5, 1.0, -2.0], dtype=torch.float64)
    a = torch.tensor([0.5, 2.0, 1.5, -1.0, 0.1, 1.0], dtype=torch.float64)
    result = FLTrust(space="update")((a * w)[None], Context(root_update=w))
    trust, energy = float(result.scores), w * w
    weight = float(result.coefficients) * trust  # one client: TS / TS = 1
    assert weight == pytest.approx(float((energy * a).sum() / (energy * a * a).sum()), rel=1e-12)


def test_a_client_weighing_under_a_tenth_of_the_mean_counts_as_rejected():
    """Trust 1 and 0.04: shares 0.9615 and 0.0385 < 1/20."""
    rows = torch.tensor([[1.0, 0.0], [0.04, (1 - 0.04**2) ** 0.5]])
    result = FLTrust(space="update")(rows, Context(root_update=torch.tensor([2.0, 0.0])))
    assert result.accepted.tolist() == [True, False]
    assert bool((result.coefficients > 0).all())


@pytest.mark.parametrize(
    "rows, root",
    [
        (-torch.ones(3, 2), torch.ones(2)),
        (torch.zeros(3, 2), torch.ones(2)),
        (torch.ones(3, 2), torch.zeros(2)),
    ],
    ids=["all against", "zero rows", "zero reference"],
)
def test_nobody_to_trust_skips_the_round(rows, root):
    result = FLTrust(space="update")(rows, Context(root_update=root))
    assert result.skipped and not result.accepted.any() and not result.vector.any()


@given(st.floats(0.01, 100), st.permutations(range(7)))
def test_length_of_a_row_and_order_of_clients_do_not_matter(scale, order):
    rows = oracle_rows()
    stretched = rows.clone()
    stretched[4] *= scale
    rule, context = FLTrust(space="update"), Context(root_update=rows[0])
    result = rule(stretched[list(order)], context)
    torch.testing.assert_close(result.vector, VECTOR, atol=2e-6, rtol=0)


def test_one_huge_liar_cannot_stretch_the_result():
    rows = oracle_rows()
    rows[4] *= 1e30
    result = FLTrust(space="update")(rows, Context(root_update=rows[0]))
    assert result.vector.norm() <= rows[0].norm() * (1 + 1e-12)


def test_it_says_what_is_missing():
    with pytest.raises(ConfigError, match="needs the update of the server's root data"):
        FLTrust()(torch.ones(3, 2))
    with pytest.raises(ConfigError, match="'update' or 'model', got 'both'"):
        FLTrust(space="both")
    with pytest.raises(ToleranceError, match="f=3 needs at least 4 clients, got 3"):
        FLTrust()(torch.ones(3, 2), Context(root_update=torch.ones(2), byzantine_count=3))
    assert FLTrust().needs == {"root_update"}
    assert (FLTrust().linear, FLTrust(space="update").linear) == (False, True)
