"""The round: who takes part, what the attacker sees, what is never averaged."""

from dataclasses import dataclass, replace

import pytest
import torch

from fedalign.algorithms.client_momentum import ClientMomentum
from fedalign.core.contracts import Context, Defense, State, require
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.core.threat import Crafted, Knowledge
from fedalign.federation.parts import Schedule
from fedalign.federation.round import global_round
from fedalign.federation.sampling import Sampling, choose_attackers
from tests.worlds import Mean, federation


@dataclass(frozen=True)
class Spy:
    """Remembers the views it got in a list from outside."""

    seen: list
    knowledge: Knowledge = Knowledge.OWN
    value: float = 1.0

    def __call__(self, view):
        self.seen.append(view)
        return Crafted(
            torch.full_like(view.own, self.value), {"rounds": view.memory.get("rounds", 0) + 1}
        )


class Flipped:
    """Poisons labels only."""

    def poison(self, dataset, rng, member):
        return replace(dataset, labels=9 - dataset.labels)

    def triggered(self, dataset):
        return None


@dataclass(frozen=True)
class Picky(Mean):
    """Needs 5 clients."""

    def minimum(self, byzantine_count):
        return 5

    def __call__(self, updates, context=Context()):
        require(self, len(updates), context.byzantine())
        return super().__call__(updates, context)


def _play(parts, rounds=1):
    state = State(0, parts.workload.initial())
    for _ in range(rounds):
        state, outcome, metrics = global_round(parts, state)
    return state, outcome, metrics


def test_without_an_attack_the_model_is_the_mean_of_what_clients_trained():
    parts = federation()
    state, outcome, metrics = _play(parts)
    expected = parts.workload.initial() + outcome.updates.rows.double().mean(0).float()
    assert torch.allclose(state.model, expected, atol=1e-7)
    assert 0 < metrics["accuracy"] < 1 and outcome.aggregate.accepted.all()


def test_an_attacker_sees_its_declared_knowledge_and_nothing_more():
    for knowledge, sees in (
        (Knowledge.OWN, (False, False)),
        (Knowledge.UPDATES, (True, False)),
        (Knowledge.RULE, (False, True)),
        (Knowledge.FULL, (True, True)),
    ):
        spy = Spy([], knowledge)
        _play(federation(spy, attackers=(1, 4)))
        (view,) = spy.seen
        assert (view.benign is not None, view.rule is not None) == sees
        assert view.own.shape[0] == 2 and view.clients == 6 and view.poisoned is None
        if view.context is not None:  # the server's randomness stays the server's
            assert view.context.rng is view.rng
        if view.benign is not None:
            assert view.benign.shape[0] == 4


def test_the_attackers_rows_are_replaced_and_only_theirs():
    honest = _play(federation(attackers=(1, 4)))[1].updates.rows
    spied = _play(federation(Spy([]), attackers=(1, 4)))[1].updates.rows
    assert (spied[[1, 4]] == 1).all()
    assert torch.equal(spied[[0, 2, 3, 5]], honest[[0, 2, 3, 5]])


def test_the_schedule_says_when_and_memory_goes_round():
    spy = Spy([])
    state, _, _ = _play(federation(spy, attackers=(1,), schedule=Schedule(2, 2)), rounds=5)
    assert [view.round for view in spy.seen] == [2, 3]
    assert state.memory["attack"] == {"rounds": 2}


def test_a_data_attack_trains_on_poisoned_data_in_its_rounds_only():
    plain = _play(federation(attackers=(0,)))[1].updates.rows
    attacked = _play(federation(Flipped(), attackers=(0,)))[1].updates.rows
    waiting = _play(federation(Flipped(), attackers=(0,), schedule=Schedule(2)))[1].updates.rows
    assert not torch.equal(attacked[0], plain[0]) and torch.equal(attacked[1:], plain[1:])
    assert torch.equal(waiting, plain)


def test_rows_with_nan_are_rejected_counted_and_lower_f():
    parts = federation(Spy([], value=float("nan")), attackers=(1, 4))
    state, outcome, _ = _play(parts)
    assert list(outcome.nonfinite) == [1, 4]
    assert outcome.updates.clients.tolist() == [0, 2, 3, 5]
    assert outcome.context.byzantine_count == 0
    assert torch.isfinite(state.model).all()


def test_everybody_rejected_keeps_the_model_and_marks_the_round():
    parts = federation(Spy([], value=float("inf")), attackers=tuple(range(6)))
    state, outcome, _ = _play(parts)
    assert torch.equal(state.model, parts.workload.initial())
    assert (
        outcome.aggregate.skipped and outcome.aggregate.notes["skipped"] == "no usable row arrived"
    )


def test_too_few_rows_for_the_rule_skip_the_round_with_the_rules_own_words():
    parts = federation(Spy([], value=float("nan")), Picky(), attackers=(1, 4))
    state, outcome, _ = _play(parts)
    assert (
        outcome.aggregate.skipped
        and "at least 5 clients, got 4" in outcome.aggregate.notes["skipped"]
    )
    assert torch.equal(state.model, parts.workload.initial())


def test_injected_failures_cost_rows_and_are_named():
    parts = federation(failure_rate=0.5)
    _, outcome, _ = _play(parts)
    lost = set(outcome.failed)
    assert lost and lost | set(outcome.updates.clients.tolist()) == set(range(6))
    assert set(outcome.failed.values()) == {"injected crash"}


def test_a_client_that_breaks_is_kept_apart_from_its_block():
    parts = federation()
    train = parts.workload.train

    def breaks(tasks, memories, correct=None):
        if any(task.client == 2 for task in tasks):
            raise RuntimeError("no disk left on this client")
        return train(tasks, memories, correct)

    parts.workload.train = breaks
    _, outcome, _ = _play(parts)
    assert outcome.failed == {2: "RuntimeError: no disk left on this client"}
    assert outcome.updates.clients.tolist() == [0, 1, 3, 4, 5]


def test_only_what_a_rule_needs_is_prepared():
    class Needy(Mean, Defense):
        needs = frozenset({"root_update", "evaluate"})

    outcome = _play(federation(defense=Needy()))[1]
    assert outcome.context.root_update.shape == outcome.context.model.shape
    assert set(outcome.context.evaluate(outcome.context.model)) == {"accuracy", "loss"}
    plain = _play(federation())[1].context
    assert plain.root_update is None and plain.evaluate is None


def test_participation_draws_other_clients_each_round_and_f_is_rounded_up():
    """20 % of 10 clients: 2 a round; of 3 attackers 0.6 are expected, so f = 1."""
    sampling = Sampling(10, 0.2, (1, 2, 3))
    assert (sampling.size, sampling.byzantine_count) == (2, 1)
    draws = [tuple(sampling.draw(Seeds(0).at("sampling", round=r))) for r in range(40)]
    assert len(set(draws)) > 10 and all(len(d) == 2 and d[0] < d[1] for d in draws)
    assert {c for d in draws for c in d} == set(range(10))


def test_attackers_are_as_many_as_asked_and_differ_with_the_seed():
    chosen = [choose_attackers(20, 0.2, Seeds(s).at("attackers")) for s in range(5)]
    assert {len(c) for c in chosen} == {4} and len(set(chosen)) > 1
    with pytest.raises(ConfigError, match=r"\[0, 1\), got 1.0"):
        choose_attackers(20, 1.0, Seeds(0).at("attackers"))
    with pytest.raises(ConfigError, match=r"\(0, 1\], got 0"):
        Sampling(5, 0)


def test_client_momentum_memories_stay_with_clients_that_sat_out():
    parts = federation(algorithm=ClientMomentum(0.9), participation=0.5)
    _play(parts, rounds=4)
    assert all("momentum" in memory for memory in parts.runtime._memories.values())
    assert len(parts.runtime._memories) > 3
