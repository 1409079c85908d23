"""Servers that meet over real sockets: the simulation's aggregates, whoever is missing meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from os import getpid

import numpy as np
import pytest
import torch

from consensus.archive import Archive
from consensus.chain.store import ModelStore
from consensus.deployed import Deployed, Observed, Seen
from consensus.ordering import BftOrdering, RaftOrdering
from consensus.pofel import payload
from consensus.pofel.settings import Timeouts
from consensus.protocol import Ordered, PoFEL
from consensus.transport import Processes
from fedalign.core.agreement import Sealed
from fedalign.core.contracts import Context, Updates
from fedalign.core.errors import ConfigError, QuorumLostError
from tests.consensus.rounds import MEAN, agree, proposals

QUICK = Timeouts(5000, 1500, 1000, 1000, 500, 500, 1000)
_numbers = count()


def pofel(n=4, **keys):
    return PoFEL(n, 0, BftOrdering(tick_ms=20), timeouts=QUICK, **keys)


def raft(n=3, **keys):
    return Ordered(n, 0, RaftOrdering(tick_ms=20), timeouts=QUICK, **keys)


class Servers:
    """Each with a chain, a socket and a folder of its own; all in this process."""

    def __init__(self, make, n, folder):
        name = f"unix:\0fedalign-test-{getpid()}-{next(_numbers)}"
        self.addresses = {i: f"{name}-{i}" for i in range(n)}
        self.make, self.n, self.folder, self.told = make, n, folder, []
        self.there = {i: self.start(i) for i in range(n)}

    def start(self, i, height=0):
        tell = lambda what, why: self.told.append((i, what, why))  # noqa: E731
        server = Deployed(self.make(), i, self.addresses, tell)
        server.open(self.folder / str(i), height)
        return server

    def ask(self, i, round_, row=True):
        """Server i's part of a round, as `tests.consensus.rounds` draws it."""
        all_ = proposals(self.n, round_)
        mine = torch.tensor([i] if row else []).long()
        others = {j: 10.0 * (j + 1) for j in range(self.n) if j not in mine}
        own = Updates(mine, all_.rows[mine], all_.samples[mine])
        about = Context(round=round_, clients=mine, weights=own.samples.double(), absent=others)
        return self.there[i].agree(own, MEAN, about, Sealed(clock_s=float(round_)))

    def round(self, round_, who=None):
        who = list(self.there) if who is None else who
        with ThreadPoolExecutor(len(who)) as pool:
            return dict(zip(who, pool.map(lambda i: self.ask(i, round_), who), strict=True))

    def leave(self, i):
        self.there.pop(i).close()

    def close(self):
        for server in self.there.values():
            server.close()


@pytest.fixture
def servers(tmp_path):
    """Make servers; they are gone after the test, and so are their threads."""
    made, before = [], threading.active_count()

    def start(make, n):
        made.append(Servers(make, n, tmp_path))
        return made[-1]

    yield start
    for group in made:
        group.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("make", "n"), [(pofel, 4), (raft, 3)])
def test_real_servers_seal_what_the_simulation_seals(servers, make, n):
    """Same rows, same rule: bit for bit the same aggregate, whatever the sockets' timing."""
    group, chain = servers(make, n), make()
    for round_ in (1, 2):
        verdicts, expected = group.round(round_), agree(chain, round_)
        assert len({v.block.hash for v in verdicts.values()}) == 1
        for i, verdict in verdicts.items():
            assert torch.equal(verdict.aggregate.vector, expected.aggregate.vector), i
            assert verdict.members == expected.members == tuple(range(n))
            assert verdict.block.root == expected.block.root
            assert len(verdict.aggregate.accepted) == 1 and verdict.measured
