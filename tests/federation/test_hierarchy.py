"""Edges between clients and the global model: real training, a handful of clients."""

from dataclasses import replace

import pytest
import torch

from defenses.fedavg import FedAvg
from defenses.hieavg import HieAvg
from defenses.wait import Wait
from fedalign.core.contracts import State
from fedalign.core.threat import Crafted, Knowledge
from fedalign.federation.clock import Wireless
from fedalign.federation.round import global_round
from fedalign.federation.stragglers import Stragglers
from fedalign.federation.topology import Topology
from tests.worlds import federation

ALL = Stragglers("permanent", share=1.0, cold_boot_rounds=1)


def hierarchical(rule=None, top=None, edges=2, edge_rounds=1, stragglers=None, clock=None, **keys):
    parts = federation(defense=rule or FedAvg("samples"), **keys)
    return replace(
        parts,
        topology=Topology(edges, edge_rounds),
        global_defense=top or FedAvg("samples"),
        **({"stragglers": stragglers} if stragglers else {}),
        **({"clock": clock} if clock else {}),
    )


def play(parts, rounds=1):
    state, outcomes = State(0, parts.workload.initial()), []
    for _ in range(rounds):
        state, outcome, _ = global_round(parts, state)
        outcomes.append(outcome)
    return state, outcomes


def test_means_of_means_are_the_mean_of_all():
    """K = 1 and weights by samples: two edges change nothing but the rounding."""
    flat, tree = play(federation(defense=FedAvg("samples")))[0], play(hierarchical())[0]
    assert torch.allclose(flat.model, tree.model, atol=1e-6)
    assert not torch.equal(flat.model, flat.previous)


def test_the_clients_coefficients_are_those_of_edge_times_global():
    aggregate = play(hierarchical())[1][0].aggregate
    assert aggregate.coefficients.tolist() == pytest.approx([1 / 6] * 6)
    rows = play(hierarchical())[1][0].updates.rows.double()
    assert torch.allclose(aggregate.coefficients @ rows, aggregate.vector.double(), atol=1e-6)


def test_edge_rounds_train_on_from_the_edges_own_model():
    """Two edges with K = 3: an edge's third round starts from where its second left off, so the
    edges lie apart; in the next global round all start from one model again."""
    outcomes = play(hierarchical(edge_rounds=3), 2)[1]
    for outcome, first in zip(outcomes, (1, 4), strict=True):
        starts = [o.context.model for o in outcome.edges.values()]
        assert not torch.equal(starts[0], starts[1])
        assert [o.context.round for o in outcome.edges.values()] == [first + 2, first + 2]
        assert torch.equal(outcome.meeting.context.model, outcome.context.model)


def test_one_edge_of_many_rounds_needs_no_meeting():
    one, many = (play(hierarchical(edges=1, edge_rounds=k), 4 // k) for k in (1, 2))
    assert torch.allclose(one[0].model, many[0].model, atol=1e-5)
    assert many[1][0].meeting is None


def test_absent_devices_are_named_and_estimated():
    rule = HieAvg()
    stragglers = Stragglers("permanent", share=0.4, cold_boot_rounds=2)
    state, outcomes = play(hierarchical(rule, HieAvg(), stragglers=stragglers), 4)
    assert [len(o.missing) for o in outcomes[:2]] == [0, 0] and len(outcomes[2].missing) >= 2
    for edge, outcome in outcomes[3].edges.items():
        gone = set(outcome.missing)
        assert set(outcome.aggregate.notes["estimated"]) == gone
        assert set(outcome.context.absent) == gone and outcome.context.absent
        assert f"edge/{edge}" in state.memory
    assert set(outcomes[3].updates.clients.tolist()) == set(range(6)) - set(outcomes[3].missing)


def test_a_late_row_enters_the_history_of_the_round_it_was_computed_in():
    stragglers = Stragglers("temporary", share=0.34, cold_boot_rounds=2, late=True)
    parts = replace(federation(defense=HieAvg()), stragglers=stragglers)
    _, outcomes = play(parts, 4)
    late = set(outcomes[2].late)
    assert late == set(outcomes[2].missing) and late
    assert set(outcomes[3].context.late) == late
    members = outcomes[3].aggregate.memory["members"]
    away_again = late & set(outcomes[3].missing)
    assert all(members[u]["trail"][-1]["round"] == (3 if u in away_again else 4) for u in late)
    assert all(members[u]["count"] == (3 if u in away_again else 4) for u in late)


def test_an_edge_server_that_is_away_is_estimated_by_the_others():
    stragglers = Stragglers("permanent", level="edge", share=0.34, cold_boot_rounds=2)
    _, outcomes = play(hierarchical(top=HieAvg(), edges=3, stragglers=stragglers), 4)
    gone = outcomes[3].meeting.missing
    assert len(gone) == 1 and set(outcomes[3].edges) == {0, 1, 2} - set(gone)
    assert set(outcomes[3].meeting.aggregate.notes["estimated"]) == set(gone)


def test_everybody_away_keeps_the_model_and_the_run_goes_on():
    parts = hierarchical(HieAvg(), HieAvg(), stragglers=replace(ALL, level="both"))
    state, outcomes = play(parts, 3)
    assert [o.aggregate.skipped for o in outcomes] == [False, True, True]
    assert torch.equal(state.model, state.previous)
    devices = hierarchical(stragglers=ALL)
    assert [o.aggregate.skipped for o in play(devices, 2)[1]] == [False, True]


def test_who_waits_loses_nobody_but_time():
    stragglers = Stragglers("temporary", share=0.34, cold_boot_rounds=1)
    clock = Wireless()
    full = play(hierarchical(clock=clock), 3)[0]
    waited = play(hierarchical(Wait(), Wait(), stragglers=stragglers, clock=clock), 3)[0]
    rushed = play(hierarchical(stragglers=stragglers, clock=clock), 3)[0]
    assert torch.equal(full.model, waited.model) and not torch.equal(full.model, rushed.model)
    assert full.clock_s < rushed.clock_s < waited.clock_s


def test_an_attacker_sees_its_own_edge_only_and_its_memory_stays_there():
    seen = []

    class Spy:
        knowledge = Knowledge.FULL

        def __call__(self, view):
            seen.append((view.clients, len(view.own), view.context.byzantine_count))
            return Crafted(view.own, {"times": view.memory.get("times", 0) + 1})

    state, _ = play(hierarchical(attack=Spy(), attackers=(0, 1, 4), edge_rounds=2), 1)
    assert seen == [(3, 2, 2), (3, 2, 2), (3, 1, 1), (3, 1, 1)]
    assert [state.memory[f"attack/{e}"]["times"] for e in (0, 1)] == [2, 2]


def test_attackers_at_different_edges_draw_different_numbers():
    drawn = []

    class Dice:
        knowledge = Knowledge.OWN

        def __call__(self, view):
            drawn.append((view.round, float(view.rng.random())))
            return Crafted(view.own)

    play(hierarchical(attack=Dice(), attackers=(0, 1, 3, 4)), 2)
    assert [round for round, _ in drawn] == [1, 1, 2, 2] and len({x for _, x in drawn}) == 4


def test_a_row_that_is_no_number_counts_as_missing():
    class Broken:
        knowledge = Knowledge.OWN

        def __call__(self, view):
            return Crafted(torch.full_like(view.own, float("nan")))

    outcome = play(hierarchical(HieAvg(), attack=Broken(), attackers=(0,)))[1][0]
    assert list(outcome.nonfinite) == [0] and outcome.edges[0].context.absent.keys() == {0}
