"""A rule on some rows, reported about all."""

import torch

from fedalign.core.contracts import Context
from fedalign.core.on_rows import on_rows
from tests.defenses.small_rules import Count, LengthFilter, Middle


def test_decisions_return_to_their_clients():
    """Rows 0, 2, 3 have lengths 5, 5, 50: the last leaves the band. Client 1 was left out."""
    rows = torch.tensor([[3.0, 4], [1, 1], [5, 0], [0, 50]])
    result = on_rows(LengthFilter(), rows, torch.tensor([True, False, True, True]), Context())
    assert result.accepted.tolist() == [True, False, True, False]
    assert result.coefficients.tolist() == [0.5, 0.0, 0.5, 0.0]
    assert result.scores.tolist() == [5.0, 0.0, 5.0, 50.0]
    assert result.vector.tolist() == [4.0, 2.0]


def test_memory_lives_under_rule_and_survives_an_empty_round():
    rows, everybody = torch.ones(2, 1), torch.tensor([True, True])
    first = on_rows(Count(), rows, everybody, Context())
    empty = on_rows(Count(), rows, ~everybody, Context(memory=first.memory))
    assert empty.skipped and empty.memory == {"rule": {"runs": 1}}
    assert on_rows(Count(), rows, everybody, Context(memory=empty.memory)).memory == {
        "rule": {"runs": 2}
    }


def test_what_a_rule_does_not_say_stays_unsaid():
    result = on_rows(Middle(), torch.ones(3, 1), torch.tensor([True, True, False]), Context())
    assert result.coefficients is None and result.scores is None
