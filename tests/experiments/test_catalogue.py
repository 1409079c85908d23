"""The catalogue: every object has a file, a config, a paper; the README says what there is."""

import inspect
from pathlib import Path

import pytest
from rich.console import Console

from experiments import catalogue, compose, preflight
from experiments.build import locate
from experiments.readme import GROUPS

FAMILIES = ("attack", "defense")
OPTIONS = [
    (group, name)
    for group in catalogue.groups()
    if group != "scenario"
    for name in catalogue.names(group)
]
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_config_lists_every_parameter_with_the_signatures_default(group, name):
    """Variants may change defaults; the plain config of a class may not."""
    own = catalogue._yaml(catalogue.CONF / group / f"{name}.yaml")
    node = compose._composed(f"{group}/{name}", None)[group]
    signature = inspect.signature(locate(node["_target_"]))
    given_by_code = {"site"}  # what no config can hold
    parameters = {k: p for k, p in signature.parameters.items() if k not in given_by_code}
    assert set(node) - {"_target_"} == set(parameters)
    if "_target_" not in own or name != node["_target_"].rpartition(".")[0].rpartition(".")[2]:
        return
    for key, parameter in parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty:
            assert node[key] == "???" or isinstance(node[key], list | dict), key
            continue
        default = list(default) if isinstance(default, tuple) else default
        assert node[key] == default, f"{key}: {node[key]!r} in YAML, {default!r} in code"


@pytest.mark.parametrize("group", FAMILIES)
def test_every_module_of_a_family_has_an_idea_a_paper_and_a_config(group):
    targets = {entry.target.rpartition(".")[0] for entry in catalogue.entries(group)}
    for entry in catalogue.entries(group):
        assert entry.idea and entry.paper, f"{entry.target} lacks its idea or its Paper: line"
    folder = ROOT / f"{group}s"
    for path in folder.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name.startswith("_"):
            continue
        package = ".".join(path.relative_to(ROOT).parent.parts)
        covered = any(t == package or t.startswith(package + ".") for t in targets)
        assert module in targets or (package != f"{group}s" and covered), f"{module} has no config"


def test_every_incentive_says_whom_it_follows():
    for entry in catalogue.entries("incentive"):
        assert entry.idea and entry.paper, f"{entry.target} lacks its idea or its Paper: line"


@pytest.mark.parametrize("name", catalogue.names("scenario"))
def test_every_scenario_and_preset_composes(name):
    plain = compose.study([f"scenario={name}"])
    assert plain.cells and plain.title
    presets = compose._base(name)[0]["presets"]
    for preset in presets:
        study = compose.study([f"scenario={name}", f"preset={preset}"])
        assert study.name == f"{name}-{preset}" and study.cells


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names("scenario"))
def test_every_scenarios_default_is_accepted_before_training(name):
    """A grid may hold no cell that its own rules refuse."""
    study = compose.study([f"scenario={name}"])
    if study.cells[0].config["workload"]["_target_"] != "fedalign.training.sgd.Sgd":
        pytest.skip("it needs a taught language model")
    preflight.check(study, Console(quiet=True))


@pytest.mark.parametrize("group", GROUPS)
def test_the_readme_lists_what_there_is(group):
    text = (ROOT / "README.md").read_text()
    assert catalogue.markdown(group) in text, "run: python -m experiments.readme"
