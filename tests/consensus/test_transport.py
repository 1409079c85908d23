"""Simulated servers that are away for a while: too few are waited for, enough go on."""

import pytest
import torch

from consensus.protocol import Ordered, PoFEL
from consensus.transport import Outage, Processes
from fedalign.core.errors import ConfigError, QuorumLostError
from tests.consensus.rounds import agree


def raft(n=3, **keys):
    return Ordered(n, 0, **keys)


def test_enough_servers_go_on_without_the_one_that_is_away():
    """Raft of three needs two; server 2 misses height 2 and nothing else."""
    chain = raft(outages=[Outage([2], 2, 2)])
    verdicts = [agree(chain, round_, late=(2,) if round_ == 2 else ()) for round_ in (1, 2, 3)]
    assert [v.members for v in verdicts] == [(0, 1, 2), (0, 1), (0, 1, 2)]
    assert all(v.paused == () for v in verdicts)


def test_without_a_quorum_the_height_waits_and_comes_out_as_if_nobody_had_left():
    """Two of three are away for 90 simulated seconds, which the round takes longer, and then the
    same rows give the same aggregate."""
    left, whole = raft(outages=[Outage([0, 1], 2, 2, 90.0)]), raft()
    for round_ in (1, 2):
        verdict, expected = agree(left, round_), agree(whole, round_)
        assert torch.equal(verdict.aggregate.vector, expected.aggregate.vector)
    (said,) = verdict.paused
    assert said.startswith("1 of 3 edge servers are there, 2 must be: 0, 1 missing.")
    assert verdict.costs["paused"].latency_s == 90.0
    assert verdict.cost.latency_s == pytest.approx(90.0 + expected.cost.latency_s)


def test_who_stays_away_too_long_ends_the_run_at_the_last_block():
    chain = raft(outages=[Outage([0, 1], 2, 2, 90.0)], processes=Processes(wait_s=60.0))
    agree(chain, 1)
    with pytest.raises(QuorumLostError, match="nobody came back in 60 simulated seconds"):
        agree(chain, 2)
    assert chain.state.height == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: raft(outages=[Outage([3], 1, 1)]), r"of servers 0 \.\. 2, got \[3\]"),
        (lambda: Outage([0], 3, 2), "heights 1 <= first <= last"),
        (lambda: Processes(restarts=-1), "restarts >= 0"),
        (lambda: Processes(identities=["0x12"]), "distinct addresses of 20 bytes"),
        (lambda: PoFEL(4, processes=Processes(identities=["12" * 20])), "got 1 with simulated"),
    ],
)
def test_what_cannot_be_is_refused(make, reason):
    with pytest.raises(ConfigError, match=reason):
        make()
