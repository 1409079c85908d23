"""From words to cells."""

import pytest

from experiments import compose
from fedalign.core.errors import ConfigError, UnknownNameError


def _axes(*words):
    return [dict(cell.axes) for cell in compose.study(words).cells]


def test_a_comma_list_on_an_axis_replaces_it_and_on_another_key_adds_one():
    cells = _axes("scenario=faker", "attack=none,lie", "defense=krum", "seed=4", "rounds=3,5")
    assert len(cells) == 4
    assert cells[0] == {"attack": "none", "defense": "krum", "seed": "4", "rounds": "3"}


def test_without_a_scenario_it_is_one_run():
    (cell,) = compose.study(["attack=sign_flip5", "defense=median"]).cells
    assert cell.config["defense"]["_target_"] == "defenses.median.Median"


def test_a_plus_puts_one_rule_inside_another():
    (cell,) = compose.study(["defense=spp+nnm+trimmed_mean"]).cells
    assert cell.config["defense"]["rule"]["rule"]["_target_"].endswith("TrimmedMean")
    with pytest.raises(ConfigError, match="krum wraps no other rule"):
        compose.study(["defense=krum+median"])
    with pytest.raises(ConfigError, match="write defense=spp\\+krum"):
        compose.study(["defense=spp"])


def test_a_parameter_reaches_the_cells_that_have_it_and_is_refused_if_none_has():
    study = compose.study(["attack=none,sign_flip", "attack.scale=3"])
    assert [cell.config["attack"].get("scale") for cell in study.cells] == [None, 3]
    with pytest.raises(UnknownNameError, match="scale"):
        compose.study(["attack=none", "attack.scale=3"])
    with pytest.raises(UnknownNameError, match="Did you mean 'scale'"):
        compose.study(["attack=sign_flip", "attack.scal=3"])


def test_a_swept_parameter_does_not_repeat_cells_it_does_not_reach():
    cells = _axes("attack=none,sign_flip", "attack.scale=1,2,3")
    assert len(cells) == 4
    assert {cell["attack.scale"] for cell in cells} == {"—", "1", "2", "3"}


def test_the_name_of_a_run_is_what_can_change_its_numbers():
    def name(*words):
        return compose.study(words).cells[0].run_id

    assert name() == name(
        "workers=7", "keep=all", "output_root=x", "runtime=processes", "reuse=any"
    )
    assert (
        len({name(), name("seed=1"), name("batching=loop"), name("block=7"), name("threads=2")})
        == 5
    )


def test_a_study_that_sweeps_an_excluded_key_never_shares_cells_across_its_values():
    ids = {cell.run_id for cell in compose.study(["runtime=inline,processes"]).cells}
    assert len(ids) == 2


def test_batching_is_the_models_own_unless_asked():
    def batching(*words):
        return compose.study(words).cells[0].config["batching"]

    assert batching() == "vmap" and batching("model=lenet") == "loop"
    assert batching("batching=loop") == "loop"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["scenario=fakr"], "Did you mean 'faker'"),
        (["defense=krumm"], "Did you mean 'krum'"),
        (["scenario=faker", "attack=none,fakr_norm"], "Did you mean 'faker_norm'"),
        (["rouns=3"], "Did you mean 'rounds'"),
        (["rounds=abc"], "rounds must be a whole number, got 'abc'"),
        (["rounds=0"], "1 or more, got 0"),
        (["participation=many"], "must be a number"),
        (["scenario=faker", "preset=tinny"], "Did you mean 'tiny'"),
        (["keep=some"], "none, last, all"),
        (["rounds"], "write key=value"),
        (["+rounds=3"], "write key=value"),
        (["attck.scale=2"], "Did you mean 'attack'"),
        (["scenario=faker,single"], "one value"),
        (["attack=3"], "names no attack"),
    ],
)
def test_a_wrong_word_is_a_sentence(words, says):
    with pytest.raises(ConfigError, match=says):
        compose.study(words)


def test_composing_costs_per_axis_and_not_per_cell():
    """Thirty times the cells on the same axes ask Hydra for nothing more."""

    def composed(words):
        compose._composed.cache_clear()
        cells = len(compose.study(words).cells)
        return cells, compose._composed.cache_info().misses

    few, asked = composed(["scenario=faker", "seed=0"])
    seeds = ",".join(map(str, range(30)))
    assert composed(["scenario=faker", f"seed={seeds}"]) == (30 * few, asked)


def test_a_scenarios_own_parameter_may_be_narrowed_away_but_a_said_one_may_not():
    """rlhf sets objective.beta for DPO; RLOO has none."""
    cells = compose.study(["scenario=rlhf", "objective=rloo"]).cells
    assert cells and all("beta" not in cell.config["objective"] for cell in cells)
    with pytest.raises(UnknownNameError, match="'beta'"):
        compose.study(["scenario=rlhf", "objective=rloo", "objective.beta=0.3"])
