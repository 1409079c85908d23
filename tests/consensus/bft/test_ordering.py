"""PoFEL over the BFT order: the claim for f < n/3 Byzantine servers stands on both layers."""

import numpy as np
import pytest

from consensus.bft.messages import Message, Step, Vote
from consensus.ordering import BftOrdering
from consensus.protocol import PoFEL
from tests.consensus.rounds import agree


@pytest.mark.parametrize("n", [4, 7])
def test_a_round_over_the_bft_order_ends_like_one_over_raft(n):
    """Same aggregate and leader, all servers in one state, over another order of entries."""
    over = {}
    for name, more in (("raft", {}), ("bft", {"ordering": BftOrdering()})):
        chain = PoFEL(n, **more)
        chain.open(None)
        over[name] = agree(chain)
        assert len({server.machine.state_hash() for server in chain.members}) == 1
    raft, bft = over["raft"], over["bft"]
    assert bft.status == "final" and bft.aborted == 0
    assert bft.aggregate.vector.tolist() == raft.aggregate.vector.tolist()
    assert (bft.leader, bft.members, bft.votes) == (raft.leader, raft.members, raft.votes)


def test_rounds_go_on_with_a_server_missing():
    chain = PoFEL(4, ordering=BftOrdering(), down=[2])
    chain.open(None)
    for round in (1, 2):
        verdict = agree(chain, round)
        assert verdict.status == "final" and verdict.members == (0, 1, 3)


def test_same_seed_same_block():
    verdicts = []
    for _ in range(2):
        chain = PoFEL(4, seed=3, ordering=BftOrdering())
        chain.open(None)
        verdicts.append(agree(chain))
    assert verdicts[0].block == verdicts[1].block


def test_forged_votes_end_at_the_gate():
    ordering = BftOrdering()
    core = ordering.core(0, 4, np.random.default_rng(0))
    forged = Vote(Step.PREVOTE, 1, 0, bytes(32), -1, 1, bytes(65))
    ordering.step(core, 1, Message(0, forged))
    assert core.gate.refused == {"signature_range": 1} and not core.votes.all()
