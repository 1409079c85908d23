"""PerPart: pieces side by side, decisions by the majority of pieces."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.lfr import LFR
from defenses.per_part import PerPart
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.core.vectors import Layout
from tests.defenses.small_rules import Central, Count, LengthFilter, Mean, Middle

LAYOUT = Layout.of({"a": (2,), "b": (1,), "head": (3,)})


def test_each_tensor_takes_its_own_row():
    """Central per tensor: row 0 in a, row 1 in b, row 2 in head; nobody is right in half of three."""
    rows = torch.tensor([[1.0, 1, 9, 9, 9, 9], [9, 9, 1, -9, -9, -9], [-9, -9, -9, 1, 1, 1]])
    result = PerPart(Central())(rows, Context(layout=LAYOUT))
    assert result.vector.tolist() == [1.0] * 6
    assert result.accepted.tolist() == [False] * 3
    assert result.scores.tolist() == pytest.approx([1 / 3] * 3)
    assert result.notes == {"accepted_per_part": {"a": 1, "b": 1, "head": 1}}
    assert result.coefficients is None


def test_half_of_the_parts_is_enough():
    """Lengths in the body 1, 1, 1, 9, 1; in the head 9, 1, 1, 1, 1 (all times sqrt 3)."""
    rows = torch.ones(5, 6)
    rows[3, :3] = 9
    rows[0, 3:] = 9
    result = PerPart(LengthFilter(), mode="head")(rows, Context(layout=LAYOUT))
    assert result.scores.tolist() == [0.5, 1.0, 1.0, 0.5, 1.0]
    assert bool(result.accepted.all()) and result.vector.tolist() == [1.0] * 6
    whole = LengthFilter()(rows)
    assert whole.accepted.tolist() == [False, True, True, False, True]


def test_adapter_factors_are_grouped_by_name():
    layout = Layout.of({"x.lora_A": (1,), "x.lora_B": (1,), "y.lora_A": (1,), "z": (1,)})
    rows = torch.tensor([[0.0, 1, 0, 9], [1, 0, 1, 0], [9, -9, -9, 1]])
    result = PerPart(Central(), mode="adapter_factors")(rows, Context(layout=layout))
    assert set(result.memory) == {"lora_A", "lora_B", "rest"}
    # lora_A (columns 0, 2): (0, 0), (1, 1), (9, -9), mean (10/3, -8/3): row 0 and 1 at 4.27, 4.35
    # lora_B: 1, 0, -9, mean -8/3: row 1.   rest: 9, 0, 1, mean 10/3: row 2
    assert result.vector.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_patterns_name_the_head():
    rows = torch.ones(2, 6)
    named = PerPart(Mean(), mode="head", patterns=["a", "b*"])(rows, Context(layout=LAYOUT))
    assert named.notes["accepted_per_part"] == {"head": 2, "rest": 2}
    with pytest.raises(UnknownNameError, match="What exists: a, b, head"):
        PerPart(Mean(), mode="head", patterns=["classifier"])(rows, Context(layout=LAYOUT))


def test_vectors_of_the_context_are_cut_with_the_rows():
    """The filter adds the model's part: with model (3, 3, ...) lengths 4 and 4 of each tensor."""
    rows = torch.tensor([[1.0] * 6, [-7.0] * 6, [1.0] * 6])
    result = PerPart(LengthFilter())(rows, Context(layout=LAYOUT, model=torch.full((6,), 3.0)))
    assert bool(result.accepted.all())
    assert result.vector.tolist() == pytest.approx([-5 / 3] * 6)


def test_memory_is_kept_per_part():
    rule, rows = PerPart(Count()), torch.ones(2, 6)
    first = rule(rows, Context(layout=LAYOUT))
    second = rule(rows, Context(layout=LAYOUT, memory=first.memory))
    assert second.memory == {name: {"runs": 2} for name in ("a", "b", "head")}


@given(st.permutations(range(5)), st.sampled_from(["tensor", "head"]))
def test_coordinate_rules_do_not_notice_and_order_does_not_matter(order, mode):
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    cut = PerPart(Middle(), mode=mode)(rows[list(order)], Context(layout=LAYOUT))
    assert torch.equal(cut.vector, Middle()(rows).vector)


def test_skipped_only_where_all_parts_are():
    """Two lengths 1 and 9: nobody is near the median 5."""
    rows = torch.ones(2, 6)
    rows[1, :3] = 9
    half = PerPart(LengthFilter(), mode="head")(rows, Context(layout=LAYOUT))
    assert not half.skipped and half.vector.tolist() == [0, 0, 0, 1, 1, 1]
    rows[1] = 9
    assert PerPart(LengthFilter(), mode="head")(rows, Context(layout=LAYOUT)).skipped


def test_facts_and_messages():
    rule = PerPart(LengthFilter())
    assert (rule.space, rule.family, rule.linear, rule.minimum(2)) == ("model", "norm", False, 1)
    with pytest.raises(ConfigError, match="without a layout"):
        rule(torch.ones(2, 6))
    with pytest.raises(ConfigError, match="LFR evaluates whole models"):
        PerPart(LFR(Mean()))
    with pytest.raises(ConfigError, match="tensor, adapter_factors, head; got 'layer'"):
        PerPart(Mean(), mode="layer")
    with pytest.raises(ConfigError, match="at least one pattern"):
        PerPart(Mean(), mode="head", patterns=[])
