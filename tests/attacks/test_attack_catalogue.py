"""Every attack: its YAML says every default, its variants override what exists, and it runs."""

import inspect
from dataclasses import is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from defenses.norm_filter import NormFilter
from fedalign.core.contracts import DataAttack, UpdateAttack
from fedalign.core.threat import Knowledge
from fedalign.core.vectors import Layout
from tests.attacks.views import crowd, grant

CONF = Path(__file__).parents[2] / "experiments" / "conf" / "attack"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
OF_FACTORS = {"gauge_flip"}  # needs lora_A and lora_B: tests/defenses/test_product_space.py
PROMISED = {
    "none",
    "label_flip",
    "sign_flip",
    "sign_flip5",
    "gaussian",
    "zero",
    "rejected",
    "lie",
    "ipm",
    "ipm10",
    "min_max",
    "min_sum",
    "fang",
    "fang_krum",
    "fang_trim",
    "la",
    "mb",
    "mb_rule",
    "neg",
    "ipmfit",
    "random_sign",
    "mpaf",
    "mpaf10",
    "model_replacement",
    "dba",
    "sybil",
    "mimic",
    "free_riding",
    "free_riding_disguised",
    "free_riding_delta",
    "plagiarism",
    "faker",
    "faker_balance",
    "faker_norm",
    "faker_distance",
    "faker_distance_whitebox",
    "faker_cosine",
    "faker_flip",
    "faker_2d",
    "faker_product",
    "faker_sybil",
    "faker_backdoor",
    "faker_per_tensor",
}


def resolved(name):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    base = {}
    for parent in node.pop("defaults", []):
        base = resolved(parent)
        assert set(node) <= set(base), f"{name} overrides keys that {parent} does not have"
    return {**base, **node}


def build(name):
    node = resolved(name)
    module, _, attribute = node.pop("_target_").rpartition(".")
    return getattr(import_module(module), attribute)(**node)


def test_everything_promised_has_a_yaml():
    assert set(NAMES) >= PROMISED


@pytest.mark.parametrize("name", NAMES)
def test_yaml_defaults_are_the_signature_defaults(name):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    target = type(build(name))
    if "defaults" in node:
        assert next(iter(node)) == "defaults" and "_target_" not in node
        return
    assert next(iter(node)) == "_target_"
    said = {key: tuple(v) if isinstance(v, list) else v for key, v in node.items()}
    said.pop("_target_")
    signature = {k: p.default for k, p in inspect.signature(target).parameters.items()}
    assert said == signature
    assert [type(v) for v in said.values()] == [type(v) for v in signature.values()]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OF_FACTORS])
def test_every_attack_runs_on_exactly_what_it_declares(name):
    """Only the granted knowledge in the view, rows of the right shape and type, twice the same
    bits, nothing written into the view, arguments frozen."""
    attack = build(name)
    assert is_dataclass(attack) and type(attack).__dataclass_params__.frozen
    if not isinstance(attack, UpdateAttack):
        assert isinstance(attack, DataAttack)
        return
    assert isinstance(attack.knowledge, Knowledge)

    def fresh():
        full = crowd(family="norm", space="model", rule=NormFilter())
        given = replace(full, layout=Layout.of({"a": (10, 20), "b": (100,)}), past=full.model * 0.9)
        if isinstance(attack, DataAttack):
            given = replace(given, poisoned=given.own * 1.1)
        return grant(given, attack.knowledge)

    first, second = fresh(), fresh()
    crafted = attack(first)
    assert crafted.rows.shape == first.own.shape and crafted.rows.dtype == torch.float32
    assert torch.equal(crafted.rows.nan_to_num(7), attack(second).rows.nan_to_num(7))
    untouched = fresh()
    for field in ("own", "model", "poisoned", "benign", "past", "initial"):
        before, after = getattr(untouched, field), getattr(first, field)
        assert before is None or torch.equal(before, after)
    if name not in ("rejected", "nan", "inf"):
        assert torch.isfinite(crafted.rows).all()


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in {"rejected", "nan", "inf"} | OF_FACTORS]
)
@pytest.mark.parametrize("columns,attackers", [(1, 1), (1, 2), (3, 1)])
def test_tiny_federations(name, columns, attackers):
    attack = build(name)
    if not isinstance(attack, UpdateAttack):
        return
    full = crowd(clients=4, attackers=attackers, columns=columns, rule=NormFilter())
    given = replace(full, poisoned=full.own, layout=Layout.of({"a": (columns,)}))
    crafted = attack(grant(given, attack.knowledge))
    assert crafted.rows.shape == (attackers, columns) and torch.isfinite(crafted.rows).all()
    in_double = replace(
        given,
        own=given.own.double(),
        benign=given.benign.double(),
        model=given.model.double(),
        initial=given.initial.double(),
        poisoned=given.poisoned.double(),
        context=replace(given.context, model=given.model.double()),
    )
    assert attack(grant(in_double, attack.knowledge)).rows.dtype == torch.float64
