"""SPP, LFR, PerPart and the black-box server around the real rules, and their config files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from defenses.bulyan import Bulyan
from defenses.dynamic_server import DynamicServer
from defenses.fedavg import FedAvg
from defenses.fltrust import FLTrust
from defenses.krum import Krum
from defenses.lfr import LFR
from defenses.median import Median
from defenses.multi_krum import MultiKrum
from defenses.norm_filter import NormFilter
from defenses.per_part import PerPart
from defenses.spp import SPP
from defenses.trimmed_mean import TrimmedMean
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from fedalign.core.vectors import Layout

CONF = Path(__file__).parents[2] / "experiments" / "conf" / "defense"
MODEL = torch.from_numpy(np.random.default_rng(0).normal(size=600)).float() / 3
ROWS = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 600))).float() / 30


def at(seed: int) -> Context:
    return Context(
        model=MODEL,
        byzantine_count=4,
        root_update=ROWS.mean(dim=0),
        layout=Layout.of({"a": (20, 20), "b": (200,)}),
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("rule", [NormFilter(), Krum(), MultiKrum(), FLTrust()])
def test_all_coordinates_give_the_full_rule(rule):
    full, whole = rule(ROWS, at(0)), SPP(rule, rho=1.0)(ROWS, at(0))
    torch.testing.assert_close(whole.vector, full.vector)
    assert whole.accepted.tolist() == full.accepted.tolist()


@pytest.mark.parametrize("rule, taken", [(Krum(), 1), (MultiKrum(), 16)])
def test_spp_takes_as_many_rows_as_the_rule(rule, taken):
    for q in (1, 3):
        result = SPP(rule, q=q)(ROWS, at(1))
        assert int(result.accepted.sum()) == taken
        torch.testing.assert_close(result.vector, ROWS[result.accepted].mean(dim=0))


def test_a_threshold_tight_attack_on_krum_is_a_coin_toss_under_spp():
    """Two centres of the same tightness, one a hair better: Krum takes it always, SPP about half
    of the time, for the hair is smaller than what half of the coordinates say by chance."""
    rows = torch.cat([ROWS[:10], ROWS[10:]])
    tight = (ROWS.mean(dim=0) + 0.5 * ROWS[:2]).clone()
    tight[1] *= tight[0].norm() / tight[1].norm()
    rows[:2] = tight
    winner = int(Krum()(rows, at(0)).accepted.nonzero())
    chosen = [int(SPP(Krum())(rows, at(seed)).accepted.nonzero()) for seed in range(60)]
    assert winner in (0, 1) and set(chosen) == {0, 1}
    assert 0.15 < chosen.count(winner) / 60 < 0.95


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(), Bulyan(), LFR(FedAvg())])
def test_rules_that_judge_no_client_are_refused(rule):
    with pytest.raises(ConfigError, match="wrap a rule that has one"):
        SPP(rule)


def test_lfr_around_the_mean_drops_a_model_that_unlearns():
    goal = MODEL + ROWS.mean(dim=0)
    rows = ROWS.clone()
    rows[:4] = -20 * rows[:4].abs()
    context = Context(
        model=MODEL,
        byzantine_count=4,
        evaluate=lambda w: {"loss": float((w - goal).norm()), "accuracy": 0.0},
    )
    assert LFR(FedAvg())(rows, context).accepted.tolist() == [False] * 4 + [True] * 16


def test_per_part_lets_krum_choose_once_per_tensor():
    result = PerPart(Krum())(ROWS, at(0))
    for columns in (slice(0, 400), slice(400, 600)):
        expected = Krum()(ROWS[:, columns], at(0)).vector
        torch.testing.assert_close(result.vector[columns], expected)


def load(name: str) -> DynamicServer:
    """A config file, its base first, as the command line merges them."""
    node = OmegaConf.load(CONF / f"{name}.yaml")
    bases = [OmegaConf.load(CONF / f"{base}.yaml") for base in node.pop("defaults", [])]
    return instantiate(OmegaConf.merge(*bases, node), _convert_="all")


def test_the_published_pool_loads_draws_and_respects_its_preconditions():
    server = load("dynamic_server")
    pool = (MultiKrum(), Median(), TrimmedMean(fraction=0.1), Bulyan())
    assert server == DynamicServer(pool=pool)
    drawn = {server(ROWS, at(seed)).notes["rule"] for seed in range(40)}
    assert drawn == {"MultiKrum", "Median", "TrimmedMean", "Bulyan"}
    few = server(ROWS[:18], at(0))  # 4 f + 3 = 19 clients are what Bulyan asks for
    assert few.notes["probabilities"] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    weighted = load("dynamic_server_weighted")(ROWS, at(0))
    assert sum(weighted.notes["probabilities"]) == pytest.approx(1)
    with pytest.raises(Exception, match="needs impact, got null"):
        load("dynamic_server_minimax")


@pytest.mark.parametrize("name", ["spp", "spp_layerwise", "lfr", "err", "err_union", "per_part"])
def test_wrappers_ask_for_their_rule_in_the_file(name):
    node = OmegaConf.load(CONF / f"{name}.yaml")
    bases = [OmegaConf.load(CONF / f"{base}.yaml") for base in node.pop("defaults", [])]
    merged = OmegaConf.merge(*bases, node)
    assert OmegaConf.is_missing(merged, "rule")
    merged.rule = {"_target_": "defenses.norm_filter.NormFilter"}
    assert instantiate(merged, _convert_="all").rule == NormFilter()
