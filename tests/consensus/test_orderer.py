"""Raft and BFT behind one surface: a driver that knows only `Orderer` orders with either."""

import numpy as np
import pytest

from consensus.ordering import BftOrdering, RaftOrdering


def order(ordering, items, servers=4, rounds=60):
    """Everybody proposes, ticks and talks; what each server applied, in order."""
    cores = [ordering.core(id, servers, np.random.default_rng(id)) for id in range(servers)]
    applied = [[] for _ in cores]
    for round in range(rounds):
        wire = []
        for id, core in enumerate(cores):
            core.tick()
            if round == rounds // 2 and id == ordering.route(core):
                for item in items:
                    assert core.propose(item).status == "accepted"
        busy = True
        while busy:
            busy = False
            for id, core in enumerate(cores):
                while core.has_ready():
                    busy, ready = True, core.ready()
                    wire += [(id, m) for m in (*ready.messages, *ready.messages_after_persist)]
                    applied[id] += ordering.committed(ready)
                    core.advance(ready.ack)
            for sender, message in wire:
                to = range(servers) if message.to < 0 else (message.to,)
                for other in to:
                    if other != sender:
                        ordering.step(cores[other], sender, message)
            wire = []
    return applied


@pytest.mark.parametrize("ordering", [RaftOrdering(), BftOrdering()], ids=["raft", "bft"])
def test_all_servers_apply_the_same_in_the_same_order(ordering):
    applied = order(ordering, [b"a", b"b", b"c"])
    assert sorted(applied[0]) == [b"a", b"b", b"c"]
    assert all(each == applied[0] for each in applied)
