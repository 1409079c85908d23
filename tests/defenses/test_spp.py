"""SPP: its theory as numbers, its semantics by hand, its limits as they are."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.dnc import DnC
from defenses.fltrust import FLTrust
from defenses.foolsgold import FoolsGold
from defenses.spp import SPP
from fedalign.core.contracts import Aggregate, Context, Defense
from fedalign.core.errors import ConfigError
from fedalign.core.subsets import subset_of_each
from fedalign.core.vectors import Layout
from tests.defenses.small_rules import Central, LengthFilter, Middle


def at(seed: int, **more) -> Context:
    return Context(rng=np.random.default_rng(seed), **more)


def honest_models(seed: int, n: int = 20, d: int = 4810) -> torch.Tensor:
    """Rows as in the default study: a common model of length 7, updates of length about 1."""
    random = np.random.default_rng(seed)
    common = random.normal(size=d) * 7 / d**0.5
    return torch.from_numpy(common + random.normal(size=(n, d)) / d**0.5).float()


# ---------------------------------------------------------------- theory


def balanced(w: torch.Tensor, a: float) -> torch.Tensor:
    """Every scalar is a; the last coordinate's restores the norm (its own energy is negligible)."""
    row = a * w
    row[-1] = (w.square().sum() - row[:-1].square().sum()).sqrt()
    return row


@pytest.mark.parametrize("a, rho", [(0.5, 0.5), (0.5, 0.25), (-0.7, 0.5)])
def test_balanced_attack_has_the_two_ratios_of_the_theory(a, rho):
    """On K the norm ratio is |a| where the last index is outside, sqrt(a^2 + (1 - a^2) / rho) where
    it is inside; inside happens with probability rho (4 sigma of 400 draws)."""
    w = torch.from_numpy(np.random.default_rng(1).normal(size=5000))
    row, random, inside = balanced(w, a), np.random.default_rng(2), 0
    for _ in range(400):
        piece = subset_of_each([slice(0, 5000)], rho, random)[0]
        ratio = float(row[piece].norm() / w[piece].norm())
        hit = int(piece[-1]) == 4999
        inside += hit
        expected = (a * a + (1 - a * a) / rho) ** 0.5 if hit else abs(a)
        assert ratio == pytest.approx(expected, rel=0.08)
    assert abs(inside - 400 * rho) < 4 * (400 * rho * (1 - rho)) ** 0.5


@pytest.mark.parametrize("exact", [True, False])
def test_balanced_attack_passes_the_full_test_and_never_spp(exact):
    rows = honest_models(0)
    for i in range(4):
        rows[i] = balanced(rows[i].double(), 0.5).float()
    assert bool(LengthFilter()(rows).accepted.all())
    for seed in range(60):
        accepted = SPP(LengthFilter(), exact=exact)(rows, at(seed)).accepted
        assert accepted.tolist() == [False] * 4 + [True] * 16


def test_partial_energy_has_the_variance_of_the_formula():
    """Var |x_K|^2 = rho (1 - rho) d / (d - 1) sum (q - mean q)^2, q = x^2, within 10 % in 4000 draws."""
    q = np.random.default_rng(3).normal(size=300) ** 2
    random = np.random.default_rng(4)
    draws = [q[subset_of_each([slice(0, 300)], 0.4, random)[0].numpy()].sum() for _ in range(4000)]
    assert np.mean(draws) == pytest.approx(0.4 * q.sum(), rel=0.01)
    expected = 0.4 * 0.6 * 300 / 299 * ((q - q.mean()) ** 2).sum()
    assert np.var(draws) == pytest.approx(expected, rel=0.1)


def test_partial_cosine_of_flips_has_the_spread_of_the_formula():
    """sd = sqrt((1 - rho) / rho * sum (s - c)^2 q^2 / (d (d - 1))) / mean q, within 10 %."""
    random = np.random.default_rng(5)
    w = random.normal(size=2000)
    s = np.where(random.random(2000) < 0.3, -1.0, 1.0)
    q = w * w
    c = (s * q).sum() / q.sum()
    cosines = []
    for _ in range(1500):
        k = subset_of_each([slice(0, 2000)], 0.5, random)[0].numpy()
        cosines.append((s[k] * q[k]).sum() / q[k].sum())
    expected = np.sqrt(((s - c) ** 2 * q**2).sum() / (2000 * 1999)) / q.mean()
    assert np.std(cosines) == pytest.approx(expected, rel=0.1)
    assert np.mean(cosines) == pytest.approx(c, abs=5 * expected / 1500**0.5)


@pytest.mark.parametrize("setting", [{}, {"q": 4}, {"rho": 0.1}, {"mode": "blocks", "block": 256}])
def test_fewer_than_one_honest_client_in_a_hundred_is_rejected(setting):
    rejected = 0
    for seed in range(40):
        rejected += 20 - int(
            SPP(LengthFilter(), **setting)(honest_models(seed), at(seed)).accepted.sum()
        )
    assert rejected < 0.01 * 40 * 20


def test_spread_attacks_pass_as_the_limit_says():
    """-w has every partial norm of w: uniform SPP cannot see it."""
    rows = honest_models(6)
    rows[:4] *= -1
    assert bool(SPP(LengthFilter(), q=4)(rows, at(6)).accepted.all())


# ---------------------------------------------------------------- coordinates


@dataclass(frozen=True)
class Witness(Defense):
    """Accepts everybody, tells which columns it saw: rows are multiples of 0 .. d-1."""

    seen: list
    test = "selection"

    def __call__(self, updates: torch.Tensor, context: Context = Context()) -> Aggregate:
        self.seen.append(updates[0].tolist())
        return Aggregate.mean(updates, torch.ones(len(updates), dtype=torch.bool))


def columns(seed: int, scale: float = 1.0, **setting) -> list[list[float]]:
    seen: list = []
    layout = Layout.of({"a": (10,), "b": (2, 5), "c": (1,), "empty": (0,)})
    rows = torch.stack([torch.arange(21.0), scale * torch.arange(21.0)])
    SPP(Witness(seen), **setting)(rows, at(seed, layout=layout))
    return seen


@given(st.integers(0, 50), st.sampled_from(["uniform", "stratified", "blocks", "layerwise"]))
def test_the_coordinates_depend_on_the_generator_alone(seed, mode):
    assert columns(seed, mode=mode, block=3) == columns(seed, 77.0, mode=mode, block=3)


def test_each_mode_draws_where_it_says():
    (uniform,) = columns(1)
    assert len(uniform) == 11  # ceil(21 / 2)
    (stratified,) = columns(1, mode="stratified")
    spans = [
        [x for x in stratified if low <= x < high] for low, high in ((0, 10), (10, 20), (20, 21))
    ]
    assert [len(span) for span in spans] == [5, 5, 1]
    pieces = columns(1, mode="layerwise")
    assert [len(piece) for piece in pieces] == [5, 5, 1] and [
        x for piece in pieces for x in piece
    ] == stratified
    (blocks,) = columns(1, mode="blocks", block=7)
    assert len(blocks) == 14 and all(blocks[i + 6] - blocks[i] == 6 for i in (0, 7))
    four = columns(1, q=4)
    assert len(four) == 4 and len({tuple(k) for k in four}) == 4


def test_modes_by_tensor_need_a_layout():
    for mode in ("stratified", "layerwise"):
        with pytest.raises(ConfigError, match=f"mode '{mode}' draws within every tensor"):
            SPP(LengthFilter(), mode=mode)(torch.ones(3, 4))


# ---------------------------------------------------------------- semantics


@pytest.mark.parametrize("rule", [LengthFilter(), Central(), FLTrust(), FLTrust("update"), DnC(2)])
def test_all_coordinates_give_the_full_rule(rule):
    rows = honest_models(7, n=9, d=60)
    rows[0] *= 3
    context = at(0, model=rows[1] * 0.1, root_update=rows[2], byzantine_count=2)
    full, whole = rule(rows, context), SPP(rule, rho=1.0)(rows, context)
    torch.testing.assert_close(whole.vector, full.vector)
    assert whole.accepted.tolist() == full.accepted.tolist()
    if full.coefficients is not None:
        torch.testing.assert_close(whole.coefficients, full.coefficients)


def test_threshold_rules_test_models_where_they_compare_models():
    """As models all rows have length near 7; as updates row 0 is ten times as long as the rest."""
    rows = honest_models(8)
    common = rows.mean(dim=0)
    updates = rows - common
    updates[0] *= 1.2
    assert bool(SPP(LengthFilter())(updates, at(0, model=common)).accepted.all())
    assert not SPP(LengthFilter())(updates, at(0)).accepted[0]


def test_threshold_needs_both_tests():
    """Row 0 fails the full test only: length 1.15 against 1, within the band of K."""
    rows = torch.ones(5, 400)
    rows[0] *= 1.15
    result = SPP(LengthFilter())(rows, at(1))
    assert result.accepted.tolist() == [False] + [True] * 4
    assert result.coefficients.tolist() == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])
    assert not SPP(LengthFilter(), band=(0.99, 1.01))(rows[[0, 0, 1, 1, 1]], at(1)).accepted[0]


def test_selection_takes_the_full_row_of_the_winner_on_k():
    """Row 1 is nearest the mean on every K; what is aggregated are all its coordinates."""
    rows = torch.tensor([[0.0] * 8, [1.0] * 8, [3.0] * 8])
    result = SPP(Central())(rows, at(0))
    assert result.vector.tolist() == [1.0] * 8
    assert result.accepted.tolist() == [False, True, False]
    assert result.coefficients.tolist() == [0, 1, 0]


def test_selection_by_majority_with_ties_to_the_lowest_index():
    """Two rows far apart and four coordinates in blocks of one: row 0 is the central one on the
    first two, row 1 on the last two. Layerwise over four tensors the vote is 2 : 2 : 0."""
    near, far = [0.0, 0.0], [9.0, 9.0]
    rows = torch.tensor([near + far, far + near, [-9.0, -9.0, -9.0, -9.0]])
    layout = Layout.of({name: (1,) for name in "abcd"})
    result = SPP(Central(), mode="layerwise")(rows, at(0, layout=layout))
    assert result.scores.tolist() == [2, 2, 0]
    assert result.accepted.tolist() == [True, False, False]


def test_weighted_rules_weigh_the_accepted_by_their_full_rows():
    """Row 2 points along g0 on the whole but against it on two of three tensors; layerwise rejects
    it, the rest get FLTrust's weights of the full rows."""
    root = torch.ones(6)
    rows = torch.tensor([[1.0, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 0], [-1, -1, -1, -1, 9, 9]])
    layout = Layout.of({"a": (2,), "b": (2,), "c": (2,)})
    context = at(0, layout=layout, root_update=root)
    rule = FLTrust(space="update")
    assert bool(rule(rows, context).accepted.all())
    result = SPP(rule, mode="layerwise", rho=1.0)(rows, context)
    assert result.accepted.tolist() == [True, True, False]
    alone = rule(rows[:2], context)
    torch.testing.assert_close(result.vector, alone.vector)
    assert result.coefficients.tolist() == [*alone.coefficients.tolist(), 0.0]


def test_layerwise_allows_a_share_of_failing_tensors():
    """Row 0 doubles tensor a: one of 5 fails (20 %, allowed), one of 4 would be 25 %."""
    for tensors, passes in ((5, True), (4, False)):
        rows = torch.ones(5, 4 * tensors)
        rows[0, :4] = 1.3
        layout = Layout.of({str(i): (4,) for i in range(tensors)})
        rule = SPP(LengthFilter(), mode="layerwise")
        assert bool(rule(rows, at(0, layout=layout)).accepted[0]) is passes


def test_nobody_accepted_keeps_the_previous_model():
    """Lengths 1, 1, 10, 10 on half of the coordinates each: on K no one is near the median 5.5."""
    rows = torch.tensor([[1.0] * 6, [1.0] * 6, [10.0] * 6, [10.0] * 6])
    result = SPP(LengthFilter())(rows, at(0))
    assert result.skipped and not result.accepted.any() and not result.vector.any()
    against = SPP(FLTrust("update"))(-torch.ones(3, 4), at(0, root_update=torch.ones(4)))
    assert against.skipped


@given(st.permutations(range(6)))
def test_order_of_clients_does_not_matter(order):
    rows = honest_models(9, n=6, d=50)
    rows[0] *= 2
    plain = SPP(LengthFilter())(rows, at(5))
    moved = SPP(LengthFilter())(rows[list(order)], at(5))
    torch.testing.assert_close(moved.vector, plain.vector)


def test_edges():
    for rows in (torch.tensor([[2.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.zeros(3, 2)):
        for exact in (True, False):
            result = SPP(LengthFilter(), exact=exact)(rows, at(0))
            assert result.vector.tolist() == rows[0].tolist() or not rows.any()
            assert bool(result.vector.isfinite().all())


def test_facts_and_messages():
    rule = SPP(FLTrust())
    assert (rule.needs, rule.space, rule.family, rule.minimum(3)) == (
        {"root_update"},
        "model",
        "cosine",
        4,
    )
    assert not rule.linear and SPP(Central()).linear
    for other, name in ((Middle(), "Middle"), (FoolsGold(), "FoolsGold"), (rule, "SPP")):
        with pytest.raises(ConfigError, match=f"but {name} has none"):
            SPP(other)
    for wrong, message in (
        ({"rho": 0}, "0 < rho <= 1"),
        ({"rho": 1.1}, "0 < rho <= 1"),
        ({"q": 0}, "q >= 1"),
        ({"mode": "random"}, "uniform, stratified, blocks, layerwise; got 'random'"),
        ({"band": (1.1, 1.2)}, "so that the median client passes"),
        ({"failing_share": 1.0}, r"in \[0, 1\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            SPP(LengthFilter(), **wrong)
