"""The incentive in the round: who is asked, who is paid, and what the log says of it."""

import csv
import gzip
from dataclasses import dataclass, replace

import pytest
import torch

from experiments import compose, federation_cell, verify
from fedalign.core.contracts import State, Work
from fedalign.core.log import read
from fedalign.core.market import Offer, Payments
from fedalign.federation.round import global_round
from incentives.audited import Audited
from incentives.reverse_vcg_auction import ReverseVcgAuction
from incentives.shapley_pay import ShapleyPay
from incentives.uniform_pay import UniformPay
from tests.worlds import federation


@dataclass(frozen=True)
class Chosen(UniformPay):
    """Asks some clients only, each for another number of steps."""

    steps: tuple[int | None, ...] = ()

    def announce(self, market):
        work = [None if s is None else Work(steps=s) for s in self.steps]
        return Offer(work=work, seconds=torch.tensor([1.0 + i for i in range(len(work))]))


class Flipped:
    def poison(self, dataset, rng, member):
        return replace(dataset, labels=9 - dataset.labels)

    def triggered(self, dataset):
        return None


def _play(parts, rounds=1):
    state = State(0, parts.workload.initial())
    for _ in range(rounds):
        state, outcome, _ = global_round(parts, state)
    return state, outcome


def test_who_is_offered_no_work_gets_no_task_and_no_pay():
    """Clients 1 and 4 are not asked. The round waits 6 s for client 5, the slowest of the rest."""
    parts = federation(incentive=Chosen(100, steps=(1, None, 2, 3, None, 1)))
    state, outcome = _play(parts)
    assert outcome.updates.clients.tolist() == [0, 2, 3, 5] and not outcome.failed
    assert outcome.payments.accounts == [0, 2, 3, 5] and outcome.payments.total == 100
    assert state.clock_s == 6.0


def test_the_work_offered_is_the_work_done():
    """A client's row does not depend on what others are asked for, but on its own steps."""
    one = _play(federation(incentive=Chosen(steps=(1, 2, 3, 1, 1, 1))))[1].updates
    two = _play(federation(incentive=Chosen(steps=(1, 2, 5, None, 1, 1))))[1].updates
    rows = dict(zip(two.clients.tolist(), two.rows, strict=True))
    assert torch.equal(one.rows[0], rows[0]) and torch.equal(one.rows[1], rows[1])
    assert not torch.equal(one.rows[2], rows[2])


@pytest.mark.parametrize("attack", [None, Flipped()])
def test_a_round_in_which_nobody_takes_part_keeps_the_model(attack):
    parts = federation(attack, incentive=Chosen(100, steps=(None,) * 6), attackers=(1,))
    state, outcome = _play(parts)
    assert outcome.aggregate.skipped
    assert (outcome.payments.accounts, outcome.payments.total) == ([], 0)
    assert torch.equal(state.model, parts.workload.initial()) and state.clock_s == 0.0


def test_an_attacker_that_lost_the_auction_sends_nothing():
    """Poisoned training is for those who take part only."""
    incentive = Chosen(100, steps=(1, None, 1, 1, 1, 1))
    outcome = _play(federation(Flipped(), incentive=incentive, attackers=(1, 2)))[1]
    assert outcome.updates.clients.tolist() == [0, 2, 3, 4, 5]


def test_measured_pay_sees_the_servers_split_and_the_audit_the_test_split():
    seen = {}

    class Spy(ShapleyPay):
        needs = frozenset({"evaluate", "audit"})

        def settle(self, outcome):
            seen.update(vars(outcome))
            return Payments()

    parts = federation(incentive=Spy())
    _play(parts)
    for name, split in (("evaluate", "server"), ("audit", "test")):
        expected = parts.workload.evaluate(seen["model"], split)
        assert seen[name](seen["model"]) == expected
    assert _play(federation(incentive=UniformPay()))[1].payments.notes == {"vetoed": 0}


def test_types_and_so_winners_stay_the_same_over_rounds():
    parts = federation(incentive=ReverseVcgAuction(units=3))
    first, later = _play(parts)[1], _play(parts, rounds=3)[1]
    assert len(first.updates.clients) == 3
    assert first.updates.clients.tolist() == later.updates.clients.tolist()


# ---------------------------------------------------------------- whole runs

SMALL = ["clients=8", "rounds=4", "data.limit=200", "byzantine_fraction=0.25", "keep=last"]
RULES = [
    ["incentive=audited+shapley_pay", "incentive.rule.history=0.5", "incentive.rule.budget=997"],
    ["incentive=audited+gtg_shapley_pay", "incentive.rule.budget=997"],
    ["incentive=priced_effort_pay"],
    ["incentive=tullock_pay", "incentive.vetoed=return"],
    ["incentive=budget_feasible_auction", "incentive.budget=550000"],
]


def _run(folder, *words, **changed):
    config = dict(compose.study([*SMALL, *words]).cells[0].config) | changed
    federation_cell.play(config, folder, {"source": "test"})
    return [e for e, _ in read(folder / "events.jsonl") if e["event"] == "round"]


@pytest.mark.parametrize("words", RULES, ids=lambda words: words[0])
def test_payments_sum_exactly_and_sit_in_the_hash_linked_log(tmp_path, words):
    """Per round: accounts are those whose rows arrived, the vetoed have 0, the sum is the total of
    the log, of rounds.csv and of clients.csv.gz. `verify` follows the links."""
    events = _run(tmp_path, *words, "attack=sign_flip5", "defense=multi_krum")
    rounds = list(csv.DictReader((tmp_path / "rounds.csv").open()))
    table = gzip.decompress((tmp_path / "clients.csv.gz").read_bytes()).decode()
    clients = list(csv.DictReader(table.splitlines()))
    for event, row in zip(events, rounds, strict=True):
        paid = event["payments"]
        assert paid["accounts"] == event["clients"] and sum(paid["amounts"]) == paid["total"] > 0
        assert all(isinstance(a, int) and a >= 0 for a in paid["amounts"])
        assert all(
            a == 0 for a, ok in zip(paid["amounts"], event["accepted"], strict=True) if not ok
        )
        assert int(row["paid"]) == paid["total"]
        here = [c for c in clients if c["round"] == row["round"]]
        assert sum(int(c["payment"]) for c in here) == paid["total"]
        malicious = sum(int(c["payment"]) for c in here if c["malicious"] == "1")
        assert malicious == int(row["paid_malicious"])
    assert verify.verify(tmp_path).rounds == 4


def test_an_edited_payment_is_a_lie_that_is_named(tmp_path):
    _run(tmp_path, "incentive=uniform_pay", "incentive.budget=80")
    log = tmp_path / "events.jsonl"
    log.write_text(log.read_text().replace('"amounts":[10,', '"amounts":[11,', 1))
    with pytest.raises(verify.IntegrityError, match="was altered"):
        verify.verify(tmp_path)


@pytest.mark.parametrize("words", RULES, ids=lambda words: words[0])
def test_payments_survive_a_stop_and_a_resume(tmp_path, monkeypatch, words):
    """The run breaks in round 3 and is taken up from the checkpoint: contributions, sums of the
    audit and solved prices come from its memory, and every line of payments is the same."""
    words = [*words, "attack=sign_flip5", "defense=multi_krum"]
    whole = _run(tmp_path / "whole", *words)
    global_round = federation_cell.global_round

    def stops(parts, state):
        if state.round == 2:
            raise KeyboardInterrupt
        return global_round(parts, state)

    monkeypatch.setattr(federation_cell, "global_round", stops)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "broken", *words, checkpoint_s=0)
    monkeypatch.setattr(federation_cell, "global_round", global_round)
    resumed = _run(tmp_path / "broken", *words, checkpoint_s=0)
    for key in ("payments", "prices", "effort", "certificate", "clock_s"):
        assert [e[key] for e in resumed] == [e[key] for e in whole], key
    files = [(tmp_path / name / "digest.txt").read_text() for name in ("whole", "broken")]
    assert files[0] == files[1]


def test_an_audit_changes_no_number_of_a_run(tmp_path):
    plain = _run(tmp_path / "plain", "incentive=shapley_pay")
    judged = _run(tmp_path / "judged", "incentive=audited+shapley_pay")
    for one, two in zip(plain, judged, strict=True):
        assert one["payments"]["amounts"] == two["payments"]["amounts"]
        assert one["model"] == two["model"]
    assert judged[-1]["payments"]["notes"]["spearman"] is not None
    assert isinstance(Audited(UniformPay()).needs, frozenset)
