"""Every rule inside consensus: the same bits whatever the threads, chunks and arrival order."""

from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consensus.exact import Exact
from consensus.pofel import evaluation
from consensus.pofel.task import Evaluator, Task
from defenses.bulyan import Bulyan
from defenses.dynamic_server import DynamicServer
from defenses.err import ERR
from defenses.fedavg import FedAvg
from defenses.krum import Krum
from defenses.lfr import LFR
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.norm_filter import NormFilter
from defenses.per_part import PerPart
from defenses.pre.arc import ARC
from defenses.pre.bucketing import Bucketing
from defenses.pre.nnm import NNM
from defenses.product_space import ProductSpace
from defenses.product_svd import ProductSvd
from defenses.spp import SPP
from defenses.trimmed_mean import TrimmedMean
from experiments import catalogue, compose
from experiments.build import build
from fedalign.core import gram, selection, vectors
from fedalign.core.contracts import Context
from fedalign.core.digest import of_tensor
from fedalign.core.errors import ConfigError
from fedalign.core.vectors import Layout

N, D, F, S = 11, 5000, 2, 16
FACTORS = Layout.of({"head": (30, 100), "lora_A": (4, 200), "lora_B": (300, 4)})
WRAPPERS = {
    "spp": SPP(Krum()),
    "spp_layerwise": SPP(NormFilter(lower=0.0, factor=1.5, space="update"), mode="layerwise"),
    "lfr": LFR(FedAvg()),
    "err": ERR(Median()),
    "err_union": ERR(FedAvg(), remove="union"),
    "per_part": PerPart(MultiKrum()),
    "nnm": NNM(TrimmedMean()),
    "arc": ARC(Bulyan()),
    "bucketing": Bucketing(Median(), byzantine_count=1),
    "product_space": ProductSpace(Krum()),
    "product_svd": ProductSvd(FedAvg("samples")),
    "dynamic_server_minimax": DynamicServer(
        [Median(), Krum()], mode="minimax", impact=[[0.3, 0.1], [0.1, 0.4]]
    ),
}


@cache
def rules():
    """Every rule of the catalogue with its default arguments; wrappers around a small rule."""
    found = {}
    for name in catalogue.names("defense"):
        node = compose._composed(f"defense/{name}", None)["defense"]
        found[name] = WRAPPERS[name] if name in WRAPPERS else build(node)
    return found


def world():
    """Rows near a common direction, two far ones; a model, its predecessor, a root update."""
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.01, D)
    rows = torch.from_numpy(common + rng.normal(0, 0.01, (N, D)))
    rows[3] *= -5
    rows[8] += 0.2
    model = torch.from_numpy(rng.normal(0, 0.1, D)).float()
    root = torch.from_numpy(common + rng.normal(0, 0.002, D))
    goal = model.double() + root

    def evaluate(vector):
        loss = float((vector.double() - goal).square().sum())
        return {"loss": loss, "accuracy": 1 / (1 + loss)}

    context = Context(
        round=3, clients=torch.arange(N) * 7 % 23, weights=torch.arange(1, N + 1) * 10,
        byzantine_count=F, model=model, previous=0.9 * model, root_update=root, evaluate=evaluate,
        layout=Layout.of({"a": (40, 50), "head": (30, 100)}),
    )  # fmt: skip
    return rows, context


def answer(rule, order=None):
    """Digests of two rounds of a rule, the rows in `order`; the second with the first's memory."""
    rows, context = world()
    if isinstance(rule, ProductSpace | ProductSvd):
        context = replace(context, layout=FACTORS)
    order = torch.arange(N) if order is None else order
    digests, memory = [], {}
    for round_ in (3, 4):
        here = replace(
            context.rows(order), round=round_, memory=memory, rng=np.random.default_rng(round_)
        )
        found = Exact(rule, S)((rows * round_ / 3)[order], here)
        grid = np.ldexp(found.vector.numpy(), S)
        assert found.vector.dtype == torch.float64 and (grid == np.rint(grid)).all()
        back = torch.argsort(order)
        digests += [of_tensor(found.vector), found.accepted[back].tolist()]
        digests += [
            None if x is None else of_tensor(x[back]) for x in (found.coefficients, found.scores)
        ]
        digests.append(_plain(found.memory))
        memory = found.memory
    return digests


def decided(digests):
    """Vector, acceptance and coefficients of both rounds, without scores and memories."""
    return digests[0:3] + digests[5:8]


def _plain(memory):
    if isinstance(memory, torch.Tensor):
        return of_tensor(memory)
    if hasattr(memory, "items"):
        return {k: _plain(v) for k, v in sorted(memory.items())}
    if isinstance(memory, list | tuple):
        return [_plain(part) for part in memory]
    return memory


def test_no_rule_is_forgotten():
    modules = {type(rule).__module__ for rule in rules().values()}
    folder = Path(__file__).parent.parent.parent / "defenses"
    files = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if not path.name.startswith("_")
    }
    assert files == modules


@pytest.mark.parametrize("name", catalogue.names("defense"))
def test_threads_do_not_change_a_bit(name):
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(answer(rules()[name]))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", catalogue.names("defense"))
def test_the_order_of_arrival_does_not_change_a_bit(name):
    rule, plain = rules()[name], answer(rules()[name])
    for seed in (1, 2):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
        assert answer(rule, order) == plain


@pytest.mark.parametrize("name", catalogue.names("defense"))
def test_chunk_sizes_do_not_change_a_bit(name, monkeypatch):
    """Sums of products of dyadic rows below 2^53 units of 2^-2s are exact in any grouping, order
    statistics anyway. Where a rule multiplies its rows first (ARC) or adds a model, sums may move
    in their last bit, and scores with them; what is decided does not."""
    plain = decided(answer(rules()[name]))
    for size in (512, 3000):
        for module, constant in (
            (gram, "_COLUMNS"),
            (selection, "_COLUMNS"),
            (selection, "_SORTED_COLUMNS"),
        ):
            if hasattr(module, constant):
                monkeypatch.setattr(module, constant, size)
        monkeypatch.setattr(vectors.chunks, "__defaults__", (size,))
        assert decided(answer(rules()[name])) == plain


# ---------------------------------------------------------------- the arithmetic

ints = st.integers(-(2**23) + 1, 2**23 - 1)


@given(
    q=st.lists(st.lists(ints, min_size=4, max_size=4), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 2**31), min_size=6, max_size=6),
)
def test_a_mean_weighted_by_samples_is_the_integer_formula(q, sizes):
    rows, sizes = np.array(q), sizes[: len(q)]
    context = Context(weights=torch.tensor(sizes))
    rule = Exact(FedAvg(weighting="samples"), S)
    found = rule(torch.from_numpy(evaluation.dequantize(rows, S)), context).vector
    expected = evaluation.aggregate(list(rows), sizes)
    assert np.ldexp(found.numpy(), S).tolist() == expected.tolist()


@given(q=st.lists(st.lists(ints, min_size=3, max_size=3), min_size=1, max_size=7))
def test_a_plain_mean_is_the_formula_with_equal_sizes(q):
    rows = np.array(q)
    found = Exact(FedAvg(), S)(torch.from_numpy(evaluation.dequantize(rows, S))).vector
    exact = [
        (Fraction(int(column.sum()), len(q)) + Fraction(1, 2)).__floor__() for column in rows.T
    ]
    assert np.ldexp(found.numpy(), S).tolist() == exact


@given(q=st.lists(st.lists(ints, min_size=3, max_size=3), min_size=5, max_size=9))
def test_other_linear_rules_apply_rounded_coefficients_in_integers(q):
    """Multi-Krum's coefficients 1/k become round(2^20/k); the sum is exact, rounded half up."""
    rows = np.array(q)
    found = Exact(MultiKrum(1), S)(torch.from_numpy(evaluation.dequantize(rows, S)))
    c = np.ldexp(found.coefficients.numpy(), 20).astype(int).tolist()
    kept = int(found.accepted.sum())
    assert sorted(set(c)) in ([0, round(2**20 / kept)], [round(2**20 / kept)])
    for column, value in zip(rows.T.tolist(), np.ldexp(found.vector.numpy(), S), strict=True):
        total = sum(a * b for a, b in zip(c, column, strict=True))
        assert value == (total + 2**19) >> 20


def test_a_selected_row_comes_out_unchanged():
    rows, context = world()
    found = Exact(Krum(), S)(rows, context)
    chosen = int(found.accepted.nonzero()[0, 0])
    expected = evaluation.quantize(rows[chosen].numpy(), S)
    assert np.ldexp(found.vector.numpy(), S).tolist() == expected.tolist()


def test_order_statistics_are_exact():
    rows, context = world()
    found = Exact(Median(), S)(rows, context).vector
    q = evaluation.quantize(rows.numpy(), S)
    assert np.ldexp(found.numpy(), S).tolist() == np.median(q, axis=0).tolist()


@pytest.mark.parametrize("name", ["fedavg", "krum", "median", "trimmed_mean", "geometric_median"])
def test_it_is_near_the_plain_rule(name):
    rows, context = world()
    context = context.rows(torch.arange(N))
    found = Exact(rules()[name], S)(rows, context).vector
    plain = rules()[name](rows, context).vector
    assert float((found - plain).abs().max()) <= 2.0**-S + 2e-6


def test_it_plugs_into_the_evaluation():
    rng = np.random.default_rng(2)
    qs = [rng.integers(-1000, 1000, 16) for _ in range(5)]
    roots = [bytes([i]) * 32 for i in range(5)]
    nodes = [bytes([i]) * 20 for i in range(5)]
    task = Task(1, tuple(zip(nodes, roots, [1] * 5, strict=True)), (), S, b"b")
    store = dict(zip(roots, qs, strict=True))

    def combine(rows, sizes):
        return Exact(Krum(1), S).integers(np.stack(rows), Context(weights=torch.tensor(sizes)))[1]

    found = Evaluator()(task, store, combine)
    top = max(dict(found.likeness_ppb).values())
    assert top == 1_000_000_000 and len(found.best) == 1  # the chosen row is the aggregate


def test_a_skipped_round_is_a_zero_update():
    found = Exact(NormFilter(bound=1e-9, space="update"), S)(world()[0], Context())
    assert found.skipped and not found.vector.any()


def test_what_cannot_be_agreed_on_is_refused():
    rows, context = world()
    with pytest.raises(ConfigError, match=r"0 \.\. 40"):
        Exact(Median(), 41)
    with pytest.raises(ConfigError, match="at most 128 rows, got 129"):
        Exact(Median(), S)(torch.zeros(129, 2))
    rows[0, 0] = torch.nan
    with pytest.raises(ConfigError, match="cannot enter consensus"):
        Exact(Median(), S)(rows, context)


def test_static_facts_are_the_rules_own():
    rule = Exact(LFR(Krum(1)), S)
    inner = rule.rule
    assert (rule.needs, rule.space, rule.family, rule.linear, rule.minimum(1)) == (
        inner.needs, inner.space, inner.family, inner.linear, inner.minimum(1),
    )  # fmt: skip
    assert is_dataclass(rule) and [f.name for f in fields(rule)] == ["rule", "scale"]
