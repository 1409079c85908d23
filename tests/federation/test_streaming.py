"""Rounds that stream: the same model as with all rows at hand, and no rows at all afterwards."""

import pytest
import torch
from rich.console import Console

from defenses.streamed_clip import StreamedClip
from defenses.streamed_mean import StreamedMean
from experiments import compose, federation_cell, preflight
from fedalign.core.contracts import Context, State
from fedalign.core.errors import ConfigError
from fedalign.federation.round import global_round

SMALL = (
    "clients=24", "data=population", "model.hidden=[4]", "data.features=6", "data.test=50",
    "local_steps=2", "workload.batch_size=4", "byzantine_fraction=0.25", "block=5", "rounds=2",
)  # fmt: skip


def config(*words):
    return compose.study(["scenario=single", *SMALL, *words]).cells[0].config


def play(config, rounds=2):
    parts = federation_cell.federation(config)
    outcomes, state = [], State(0, parts.workload.initial())
    try:
        for _ in range(rounds):
            state, outcome, _ = global_round(parts, state)
            outcomes.append(outcome)
    finally:
        parts.runtime.close()
    return state.model, outcomes


def test_a_streamed_mean_is_the_mean_of_all_rows():
    """Two blocks of rows 1..3 and 4, 5 with d = 2: mean (3, 6); weighted 1:1:1:1:6, (4, 8)."""
    rows = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, 8.0], [5.0, 10.0]])
    for rule, weights, expected in (
        (StreamedMean(), None, [3.0, 6.0]),
        (StreamedMean("samples"), torch.tensor([1.0, 1, 1, 1, 6]), [4.0, 8.0]),
    ):
        partial = None
        for cut in (slice(0, 3), slice(3, 5)):
            known = Context(weights=None if weights is None else weights[cut])
            partial = rule.add(partial, rows[cut], known)
        assert rule.finish(partial).vector.tolist() == pytest.approx(expected)
        assert rule(rows, Context(weights=weights)).vector.tolist() == pytest.approx(expected)


def test_a_clipped_row_moves_the_mean_by_the_bound_over_n():
    rows = torch.zeros(4, 3)
    rows[2] = torch.tensor([3e6, 0.0, 4e6])
    assert StreamedClip(bound=2.0)(rows).vector.tolist() == pytest.approx([0.3, 0.0, 0.4])


@pytest.mark.parametrize("attack", ["none", "label_flip"])
def test_streaming_changes_the_bookkeeping_and_not_the_model(attack):
    """defense=fedavg holds the (n, d) matrix of the very same rows."""
    streamed, seen = play(config("defense=streamed_mean", f"attack={attack}"))
    held, kept = play(config("defense=fedavg", f"attack={attack}"))
    assert torch.allclose(streamed, held, atol=1e-6)
    assert len(seen[0].updates.rows) == 0 and seen[0].streamed.lying > 0
    assert seen[0].streamed.arrived == len(kept[0].updates.clients) < 24  # some were not online
    assert seen[0].streamed.missing == len(kept[0].missing) > 0


def test_a_poisoned_label_changes_what_is_learnt():
    clean, _ = play(config("defense=streamed_mean", "attack=none"))
    flipped, _ = play(config("defense=streamed_mean", "attack=label_flip"))
    assert not torch.equal(clean, flipped)


@pytest.mark.slow
def test_workers_do_not_change_a_bit():
    here, _ = play(config("defense=streamed_mean"))
    there, _ = play(config("defense=streamed_mean", "runtime=processes", "runtime.processes=2"))
    assert torch.equal(here, there)


def test_failed_and_infinite_rows_are_counted_and_left_out():
    model, seen = play(config("defense=streamed_mean", "failure_rate=0.3", "workload.lr=1e30"))
    first = seen[0].streamed
    assert seen[0].failed and seen[0].nonfinite
    assert first.arrived + first.missing == 24
    assert bool(torch.isfinite(model).all())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["attack=sign_flip"], "take attack=none"),
        (["incentive=uniform_pay"], "take incentive=none"),
        (["topology=edges"], "take topology=flat"),
        (["partition=classes"], "partition=iid"),
    ],
)
def test_what_needs_rows_is_refused_before_training(words, says):
    study = compose.study(["scenario=single", *SMALL, "defense=streamed_mean", *words])
    with pytest.raises(ConfigError, match=says):
        preflight.check(study, Console(quiet=True))


def test_memory_holds_one_block_whatever_the_number_of_clients(monkeypatch):
    """The rows alive at once: those of one block."""
    alive = []
    add = StreamedMean.add

    def counted(self, partial, updates, context):
        alive.append(len(updates))
        return add(self, partial, updates, context)

    monkeypatch.setattr(StreamedMean, "add", counted)
    play(config("defense=streamed_mean", "data.offline=false"), rounds=1)
    assert alive == [5, 5, 5, 5, 4]
