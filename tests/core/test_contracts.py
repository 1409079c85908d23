"""What parts promise each other."""

import pytest
import torch

from fedalign.core.contracts import Aggregate, Context, Defense, Updates, require
from fedalign.core.errors import ConfigError, ToleranceError, UnknownNameError


class Half(Defense):
    """Needs n >= 2 f + 1."""

    def minimum(self, byzantine_count):
        return 2 * byzantine_count + 1


def test_a_condition_that_does_not_hold_says_what_would():
    """5 clients, f=3: 7 are needed; the largest f that 5 stand is 2."""
    with pytest.raises(ToleranceError, match=r"f=3 needs at least 7 clients, got 5: lower .* to 2"):
        require(Half(), 5, 3)
    require(Half(), 7, 3)


def test_f_is_the_rules_own_else_the_rounds_else_refused():
    assert Context(byzantine_count=3).byzantine() == 3
    assert Context(byzantine_count=3).byzantine(1) == 1
    with pytest.raises(ConfigError, match="pass byzantine_count"):
        Context().byzantine()
    with pytest.raises(ConfigError, match="0 or more"):
        Context().byzantine(-1)


def test_a_context_is_cut_together_with_the_matrix():
    context = Context(
        clients=torch.tensor([4, 5, 6]),
        weights=torch.tensor([1.0, 2.0, 3.0]),
        model=torch.arange(4.0),
    )
    assert context.rows(torch.tensor([True, False, True])).clients.tolist() == [4, 6]
    assert context.columns(torch.tensor([0, 3])).model.tolist() == [0, 3]
    mixed = context.mixed(torch.tensor([[0.5, 0.5, 0.0]]))
    assert mixed.weights.tolist() == [1.5] and mixed.clients is None


def test_a_rejected_row_cannot_leak_into_a_combination():
    rows = torch.tensor([[1.0, 2.0], [float("inf"), float("nan")], [3.0, 4.0]])
    result = Aggregate.mean(rows, torch.tensor([True, False, True]))
    assert result.vector.tolist() == [2.0, 3.0]
    assert not result.skipped
    assert Aggregate.mean(rows, torch.zeros(3, dtype=torch.bool)).skipped


def test_an_unknown_name_lists_what_exists_and_the_nearest():
    error = UnknownNameError("attack", "fakr", ["faker", "lie"])
    assert "Did you mean 'faker'" in str(error) and "faker, lie" in str(error)


def test_a_block_that_lost_everybody_costs_the_others_neither_mask_nor_metrics():
    none = torch.zeros(0, dtype=torch.int64)
    lost = Updates(none, torch.zeros(0, 2), none, metrics={"train_loss": torch.zeros(0)},
                   failed={0: "gone"})  # fmt: skip
    full = Updates(
        torch.tensor([1, 2]), torch.ones(2, 2), torch.tensor([5, 6]), mask=torch.ones(2, 1).bool(),
        metrics={"train_loss": torch.ones(2), "cluster": torch.zeros(2)},
    )  # fmt: skip
    for blocks in ([lost, full], [full, lost], [lost, full, lost]):
        whole = Updates.concatenate(blocks)
        assert whole.mask.all() and set(whole.metrics) == {"train_loss", "cluster"}
        assert whole.clients.tolist() == [1, 2] and whole.failed == {0: "gone"}
    assert Updates.concatenate([lost, lost]).rows.shape == (0, 2)
