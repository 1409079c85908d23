"""What every rule of this half of the catalogue owes on the strangest matrices."""

from typing import get_args

import numpy as np
import pytest
import torch

from defenses.dnc import DnC
from defenses.dynamic_server import DynamicServer
from defenses.err import ERR
from defenses.flame import FLAME
from defenses.fltrust import FLTrust
from defenses.foolsgold import FoolsGold
from defenses.lfr import LFR
from defenses.per_part import PerPart
from defenses.spp import SPP, Mode
from defenses.zeno import Zeno
from defenses.zenopp import ZenoPP
from fedalign.core.contracts import Context
from fedalign.core.vectors import Layout
from tests.defenses.small_rules import Central, LengthFilter, Mean, Middle

RULES = {
    "fltrust": FLTrust(),
    "fltrust_update": FLTrust(space="update"),
    "foolsgold": FoolsGold(),
    "foolsgold_sum": FoolsGold(normalize=False),
    "dnc": DnC(),
    "flame": FLAME(),
    "flame_silent": FLAME(noise=0.0),
    "flame_model": FLAME(noise=0.0, space="model"),
    "flame_hdbscan": FLAME(noise=0.0, cluster="hdbscan"),
    "zeno": Zeno(),
    "zenopp": ZenoPP(),
    "lfr": LFR(Mean()),
    "lfr_median": LFR(Middle()),
    "err": ERR(Mean()),
    "err_union": ERR(Mean(), remove="union"),
    **{f"spp_{mode}": SPP(LengthFilter(), mode=mode) for mode in get_args(Mode)},
    "spp_coins": SPP(LengthFilter(), exact=False, q=3),
    "spp_central": SPP(Central(), q=3),
    "spp_fltrust": SPP(FLTrust()),
    "dynamic": DynamicServer([Mean(), Middle(), DnC()]),
    "dynamic_weighted": DynamicServer([Mean(), DnC()], mode="weighted"),
    "per_part": PerPart(DnC()),
}
MATRICES = {
    "one client": torch.tensor([[1.0, -2.0, 3.0]]),
    "two clients": torch.tensor([[1.0, 2.0, 0.5], [-3.0, 1.0, 1.0]]),
    "one value": torch.tensor([[1.0], [2.0], [-1.0], [0.5], [4.0]]),
    "zero rows": torch.zeros(5, 3),
    "one zero row": torch.tensor([[0.0, 0, 0], [1, 2, 3], [3, 2, 1], [1, 1, 1], [2, 2, 2]]),
    "all equal": torch.tensor([[1.0, -2.0, 3.0]]).repeat(5, 1),
    "duplicates": torch.tensor([[1.0, 0, 2], [1, 0, 2], [0, 1, 1], [0, 1, 1], [1, 1, 1]]),
    "huge": torch.tensor([[1.0, 1, 1], [1, 2, 1], [1, 1, 2], [2, 1, 1], [1e30, -1e30, 1e30]]),
    "float64": torch.tensor([[1.0, 0, 2], [1, 1, 2], [0, 1, 1], [3, 1, 1]], dtype=torch.float64),
}


def bowl(model: torch.Tensor) -> dict[str, float]:
    gap = float((model.double() - 1).square().sum())
    return {"loss": gap, "accuracy": float(gap < 1)}


def around(rows: torch.Tensor, root: torch.Tensor | None = None, f: int | None = None) -> Context:
    n, d = rows.shape
    return Context(
        clients=torch.arange(n),
        weights=torch.ones(n),
        byzantine_count=(1 if n > 3 else 0) if f is None else f,
        model=torch.full((d,), 0.25, dtype=rows.dtype),
        root_update=torch.ones(d, dtype=rows.dtype) if root is None else root,
        evaluate=bowl,
        layout=Layout.of({"a": (1,), "b": (d - 1,)}),
        rng=np.random.default_rng(7),
    )


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("rule", RULES)
def test_the_contract_holds(rule, matrix):
    rows = MATRICES[matrix]
    before = rows.clone()
    result = RULES[rule](rows, around(rows))
    assert result.vector.shape == rows[0].shape and result.vector.dtype == rows.dtype
    assert bool(result.vector.isfinite().all())
    assert result.accepted.shape == (len(rows),) and result.accepted.dtype == torch.bool
    if result.coefficients is not None:
        assert result.coefficients.dtype == torch.float64
        used = result.coefficients != 0
        expected = result.coefficients[used] @ rows[used].double()
        torch.testing.assert_close(result.vector.double(), expected, rtol=1e-5, atol=1e-6)
    assert result.coefficients is not None or result.skipped or not RULES[rule].linear
    if result.skipped:
        assert not result.vector.any() and not result.accepted.any()
    assert torch.equal(rows, before)
    again = RULES[rule](rows, around(rows))
    assert torch.equal(again.vector, result.vector)


@pytest.mark.parametrize("rule", [name for name in RULES if name != "flame"])  # it adds noise
def test_equal_rows_and_nobody_lying_give_that_row(rule):
    """The root update is that row as well; FoolsGold's sum adds the five of them up."""
    rows = MATRICES["all equal"]
    times = 5 if rule == "foolsgold_sum" else 1
    result = RULES[rule](rows, around(rows, root=rows[0], f=0))
    torch.testing.assert_close(result.vector, times * rows[0])
    assert bool(result.accepted.all()) or rule == "spp_central"


@pytest.mark.parametrize("rule", [name for name in RULES if "root_update" in RULES[name].needs])
def test_a_zero_reference_stays_finite(rule):
    rows = MATRICES["duplicates"]
    result = RULES[rule](rows, around(rows, root=torch.zeros(3)))
    assert bool(result.vector.isfinite().all())
