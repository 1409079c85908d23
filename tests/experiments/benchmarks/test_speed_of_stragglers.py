"""The table of what estimating the missing costs, and what that cost is made of."""

import pytest
import torch

from defenses import hieavg
from defenses.hieavg import HieAvg
from experiments.benchmarks.stragglers import GOALS, RULES, measure
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from fedalign.core.scattered import combine_scattered


def test_one_row_per_rule():
    rows = measure(5, 300, away=0.2, repetitions=2)
    assert [row["rule"] for row in rows] == list(RULES)
    for row in rows:
        assert row["table"] == "5 members, 300 parameters, 1 missing"
        assert row["times FedAvg"] == pytest.approx(row["ns"] / row["FedAvg ns"]) and row["ns"] > 0
        assert row["goal"] == GOALS.get(row["rule"])


@pytest.mark.parametrize("wrong", [{"n": 1}, {"d": 0}, {"away": 1.0}, {"repetitions": 0}])
def test_sizes_without_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"n >= 2, d >= 1, away in \[0, 1\)"):
        measure(**{"n": 5, "d": 30, "away": 0.2, "repetitions": 1, **wrong})


def test_a_round_reads_what_came_once_and_two_rows_of_everybody_who_did_not(monkeypatch):
    """Plus the two models they started from and the one all start from: 33 vectors for FedAvg's
    25. That is all that is read, hence what a round costs."""
    read = []

    def counting(terms):
        read.append(sum(c != 0 for c, _ in terms))
        return combine_scattered(terms)

    monkeypatch.setattr(hieavg, "combine_scattered", counting)
    rows, model, memory = torch.randn(25, 8), torch.randn(8), {}
    for r, missing in enumerate([(), (), (3, 7, 11, 12, 20)], start=1):
        here = [u for u in range(25) if u not in missing]
        context = Context(
            round=r, clients=torch.tensor(here), weights=torch.ones(len(here)),
            absent=dict.fromkeys(missing, 1.0), model=model, memory=memory,
        )  # fmt: skip
        memory = HieAvg()(rows[here], context).memory
    assert read and max(read) <= 20 + 2 * 5 + 3
