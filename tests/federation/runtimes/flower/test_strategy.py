"""Our rules in Flower's own apps decide what Flower's own strategies decide, and refuse what
those would choke on."""

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

import defenses.fedavg
import defenses.krum
import defenses.median
import defenses.multi_krum
import defenses.trimmed_mean
from defenses.centered_clipping import CenteredClipping
from defenses.fltrust import FLTrust
from defenses.zeno import Zeno
from fedalign.core.contracts import Context
from fedalign.core.errors import ConfigError
from fedalign.federation.runtimes.flower.apps import LocalGrid, client_app
from fedalign.federation.runtimes.flower.strategy import Defended

NODES = 9


def record(values, **more):
    """Two arrays, given in another order than sorted."""
    values = np.asarray(values, np.float32)
    arrays = {"w": Array(values[:6].reshape(2, 3)), "b": Array(values[6:])}
    return ArrayRecord({**arrays, **more})


def values(arrays):
    return np.concatenate([arrays["w"].numpy().ravel(), arrays["b"].numpy().ravel()])


class Round:
    """One round of a strategy on given replies: rows (n, 8), sample counts, replacements."""

    def __init__(self, strategy, model=None):
        LocalGrid(client_app(), 1)  # names this process, as every engine does
        self.strategy, self.model = strategy, record(np.zeros(8) if model is None else model)

    def __call__(self, rows, samples=None, round=1, instead=None):
        grid = LocalGrid(client_app(), len(rows))
        asked = self.strategy.configure_train(round, self.model, ConfigRecord(), grid)
        replies = []
        for message in asked:
            node = message.metadata.dst_node_id - 1
            count = 10 if samples is None else int(samples[node])
            content = RecordDict({
                "arrays": record(rows[node]), "metrics": MetricRecord({"num-examples": count}),
            })  # fmt: skip
            if instead and node in instead:
                content = instead[node]
            replies.append(Message(content, reply_to=message))
        arrays, metrics = self.strategy.aggregate_train(round, replies)
        if arrays is not None:
            self.model = arrays
        return arrays, metrics


def drawn(seed, far=2):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((NODES, 8)).astype(np.float32)
    rows[:far] += 20
    return rows, rng.integers(1, 50, NODES)


KEYS = {"fraction_evaluate": 0.0, "min_train_nodes": 1, "min_available_nodes": 1}
PAIRS = {
    "mean": (defenses.fedavg.FedAvg(weighting="samples"), FedAvg(**KEYS)),
    "krum": (defenses.krum.Krum(byzantine_count=2), Krum(num_malicious_nodes=2, **KEYS)),
    "median": (defenses.median.Median(), FedMedian(**KEYS)),
    "trimmed mean": (defenses.trimmed_mean.TrimmedMean(2), FedTrimmedAvg(beta=2 / 9 + 1e-9, **KEYS)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", range(5))
def test_rules_decide_as_flowers_own(name, seed):
    """Same replies, same model up to float32 rounding; a non-zero start, so that updates and
    models differ."""
    rows, samples = drawn(seed)
    rule, theirs = PAIRS[name]
    start = np.full(8, 0.5)
    ours = Round(Defended(rule, **KEYS), start)(rows, samples)[0]
    assert list(ours) == ["w", "b"] and ours["w"].dtype == "float32"
    expected = Round(theirs, start)(rows, samples)[0]
    np.testing.assert_allclose(values(ours), values(expected), atol=2e-6)


@pytest.mark.parametrize("seed", range(20))
def test_krum_selects_the_client_that_flowers_krum_selects(seed):
    rows, _ = drawn(seed)
    strategy = Defended(defenses.krum.Krum(byzantine_count=2), **KEYS)
    Round(strategy)(rows)
    chosen = values(Round(Krum(num_malicious_nodes=2, **KEYS))(rows)[0])
    (accepted,) = strategy.decisions[0]["accepted"]
    np.testing.assert_allclose(rows[accepted - 1], chosen, atol=1e-6)
    assert len(strategy.decisions[0]["rejected"]) == NODES - 1


def test_multi_krum_selects_the_set_that_flowers_selects():
    rows, _ = drawn(3)
    ours = Defended(defenses.multi_krum.MultiKrum(byzantine_count=2), **KEYS)
    model = values(Round(ours)(rows)[0])
    many = len(ours.decisions[0]["accepted"])
    theirs = MultiKrum(num_malicious_nodes=2, num_nodes_to_select=many, **KEYS)
    np.testing.assert_allclose(model, values(Round(theirs)(rows)[0]), atol=2e-6)


def test_what_no_rule_may_see_is_refused_and_named():
    """NaN, wrong shape, no sample count, two records; the rest is averaged: (3 + 4 + 5) / 3 = 4."""
    rows = np.repeat(np.arange(7, dtype=np.float32)[:, None], 8, axis=1)
    rows[0] = np.nan
    plain = MetricRecord({"num-examples": 1})
    instead = {
        1: RecordDict({"arrays": ArrayRecord([np.zeros(3)]), "metrics": plain}),
        2: RecordDict({"arrays": record(rows[2]), "metrics": MetricRecord({"loss": 0.1})}),
        6: RecordDict({"arrays": record(rows[2]), "again": record(rows[2]), "metrics": plain}),
    }
    strategy = Defended(defenses.fedavg.FedAvg(), **KEYS)
    arrays, _ = Round(strategy)(rows, instead=instead)
    assert values(arrays) == pytest.approx(np.full(8, 4.0))
    (decision,) = strategy.decisions
    assert decision["accepted"] == [4, 5, 6]
    assert decision["refused"] == {
        1: "holds NaN or Inf",
        2: "holds arrays of other names, shapes or types than the model",
        3: "holds no positive 'num-examples'",
        7: "must hold one ArrayRecord and one MetricRecord",
    }


def test_a_round_without_enough_replies_keeps_the_model():
    strategy = Defended(defenses.krum.Krum(byzantine_count=2), **KEYS)
    play = Round(strategy, np.full(8, 0.25))
    arrays, metrics = play(np.ones((4, 8), np.float32))
    assert values(arrays) == pytest.approx(np.full(8, 0.25)) and metrics is None
    assert "needs at least 7 clients, got 4" in strategy.decisions[0]["notes"]["skipped"]
    arrays, _ = play(np.full((9, 8), np.nan, np.float32), round=2)
    assert values(arrays) == pytest.approx(np.full(8, 0.25))
    assert strategy.decisions[1]["notes"]["skipped"] == "no usable reply arrived"


def test_a_failed_client_is_named_with_its_reason():
    strategy = Defended(defenses.fedavg.FedAvg(), **KEYS)
    play = Round(strategy)
    grid = LocalGrid(client_app(), 2)
    one, two = strategy.configure_train(1, play.model, ConfigRecord(), grid)
    content = RecordDict({"a": record(np.ones(8)), "m": MetricRecord({"num-examples": 1})})
    replies = [Message(content, reply_to=one), Message(Error(3, "out of memory"), reply_to=two)]
    strategy.aggregate_train(1, replies)
    node = two.metadata.dst_node_id
    assert strategy.decisions[0]["refused"] == {node: "failed: out of memory"}


def test_memory_and_previous_model_go_round():
    """Centred clipping starts each round from its last momentum: two rounds by hand."""
    rule, rows = CenteredClipping(tau=1.0), drawn(1)[0]
    play = Round(Defended(rule, **KEYS), np.zeros(8))
    play(rows)
    arrays, _ = play(rows, round=2)
    order = [6, 7, 0, 1, 2, 3, 4, 5]  # vectors lie in sorted order: b, then w
    sent, memory = torch.zeros(8), {}
    for round in (1, 2):
        updates = torch.from_numpy(rows[:, order]) - sent
        decision = rule(updates, Context(round=round, model=sent, memory=memory))
        sent, memory = sent + decision.vector, decision.memory
    np.testing.assert_allclose(values(arrays)[order], sent.numpy(), atol=1e-6)


def test_counters_are_no_parameters():
    """BatchNorm's int64 counter stays a counter: the first accepted client's, not a mean."""
    strategy = Defended(defenses.fedavg.FedAvg(), **KEYS)
    play = Round(strategy)
    play.model = record(np.zeros(8), steps=Array(np.array([0])))
    same = {
        node: RecordDict({
            "arrays": record(np.full(8, node), steps=Array(np.array([node + 5]))),
            "metrics": MetricRecord({"num-examples": 1}),
        })
        for node in range(3)
    }  # fmt: skip
    arrays, _ = play(np.zeros((3, 8)), instead=same)
    assert values(arrays) == pytest.approx(np.ones(8))
    assert arrays["steps"].numpy().tolist() == [5] and arrays["steps"].dtype == "int64"


def test_what_a_rule_needs_is_asked_for_at_once_and_used():
    for rule, word in ((FLTrust(), "root"), (Zeno(byzantine_count=1), "evaluate")):
        with pytest.raises(ConfigError, match=f"give Defended\\(..., {word}=function\\)"):
            Defended(rule)
    rows = np.concatenate([np.ones((4, 8)), -np.ones((5, 8))]).astype(np.float32)
    trusting = Defended(FLTrust(), root=lambda arrays: record(values(arrays) + 2), **KEYS)
    assert (values(Round(trusting)(rows)[0]) > 0).all()
    assert trusting.decisions[0]["accepted"] == [1, 2, 3, 4]
