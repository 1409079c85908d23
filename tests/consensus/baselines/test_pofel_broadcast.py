"""PoFEL by broadcast: exact counts while all is in time, two chains where it is not."""

import numpy as np
import pytest

from consensus.baselines.pofel_broadcast import PofelBroadcast
from consensus.network.links import Constant, Link
from consensus.pofel import evaluation, payload


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return (np.arange(1, 9) * 1000 + rng.integers(-300, 300, (n, 8))).astype(np.int64)


@pytest.mark.parametrize("n", [4, 7, 10])
def test_O_N_four_broadcasts_and_a_block(n):
    played = PofelBroadcast(n).play(rows(n), [100] * n)
    assert played.messages == 4 * n * (n - 1) + (n - 1)
    assert not played.forked and len(set(played.leaders)) == 1
    assert played.latency_s == pytest.approx(0.007)  # five hops; a model takes two, beside the vote


def test_O_N_without_hidden_votes():
    assert PofelBroadcast(4, commit_votes=False).play(rows(4), [100] * 4).messages == 39


def test_the_block_seals_the_mean():
    chain = PofelBroadcast(4)
    values = rows(4)
    chain.play(values, [100, 200, 300, 400])
    mean = evaluation.aggregate(list(values), [100, 200, 300, 400])
    expected = payload.root(mean, 16)
    states = {server.machine.state_hash() for server in chain.servers}
    assert len(states) == 1
    block = next(e for e in chain.servers[0].stream if e.kind.value == "block")
    assert expected in block.content.facts


def test_T14_who_is_late_for_some_splits_the_chain():
    slow = {(6, i): Link(Constant(30_000_000)) for i in range(3)}
    played = PofelBroadcast(7, links=slow).play(rows(7), [100] * 7)
    assert played.forked and len(set(played.heads)) == 2
    assert len({played.leaders[i] for i in range(3)}) == 1
