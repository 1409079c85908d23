"""The comparison of protocols as a user runs it, small: counts are the formulas'."""

import json

import pytest

from experiments import compose
from experiments.build import locate
from fedalign.core.errors import UnknownNameError


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    study = compose.study([
        "scenario=consensus_compare", "servers=[4]", "d=100",
        "protocol=raft,pbft,hotstuff,clique,pofel broadcast,pofel on raft,pofel on bft",
    ])  # fmt: skip
    found = []
    for cell in study.cells:
        locate(study.cell)(dict(cell.config), folder / cell.run_id, {"source": "test"})
        found += json.loads((folder / cell.run_id / "rows.json").read_text())
    return found


def table(rows, name):
    return [r for r in rows if "figure" not in r and r.get("table", "main") == name]


def test_measured_messages_are_the_formulas(rows):
    entries = table(rows, "entries")
    assert len(entries) == 6
    for row in entries:
        assert row["messages"] == row["normal case"], row


def test_each_order_stands_f_and_no_more(rows):
    for row in table(rows, "faults"):
        assert row["agrees with f down"] and not row["agrees with f + 1 down"], row
    lies = {row["protocol"]: row["may lie"] for row in table(rows, "faults")}
    assert lies["pbft"] == lies["pofel on bft"] == 1 and lies["raft"] == 0


def test_a_round_costs_what_it_sends(rows):
    main = {row["protocol"]: row for row in table(rows, "main")}
    assert main["pofel broadcast"]["messages"] == 4 * 4 * 3 + 3
    assert main["raft"]["messages"] < main["pofel on raft"]["messages"]
    assert main["pofel on raft"]["messages"] < main["pofel on bft"]["messages"]
    for row in main.values():
        asked = 96 if row["protocol"] == "pofel broadcast" else 0  # requests count as control else
        assert row["models kB"] == pytest.approx(4 * 3 * (4 * 100 + 27 + 64 + asked) / 1e3)
        assert 0 < row["joules"] < row["joules with training"]
        assert row["signatures"] > 0 and 0 < row["hashes"] < 1e5  # nobody mines


def test_an_entry_costs_the_signatures_of_its_protocol(rows):
    """Raft and PBFT (authenticators) sign nothing. BFT of four: a proposal, four prevotes and four
    precommits are signed, and recovered by the three others each: 9 + 27."""
    signed = {row["protocol"]: row["signatures"] for row in table(rows, "entries")}
    assert signed["raft"] == signed["pbft"] == signed["pofel on raft"] == 0
    assert signed["pofel on bft"] == 9 + 27


def test_an_unknown_protocol_is_named(tmp_path):
    study = compose.study(["scenario=consensus_compare", "protocol=paxos", "servers=[4]"])
    with pytest.raises(UnknownNameError, match="no protocol 'paxos'"):
        locate(study.cell)(dict(study.cells[0].config), tmp_path, {})


def test_curves_are_drawn_for_every_measure(rows):
    drawn = [r for r in rows if r.get("figure") == "protocols"]
    assert {r["panel"] for r in drawn} == {
        "Messages of a round", "Energy of a round", "Latency of a round",
        "CPU time of a round, all servers",
    }  # fmt: skip
