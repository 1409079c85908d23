"""A round costs what it must: no product and no signature is computed twice by one server."""

import numpy as np

from consensus.ordering import RaftOrdering
from consensus.pofel.evaluation import Products
from consensus.pofel.task import Evaluator, Task
from consensus.protocol import PoFEL
from tests.consensus.rounds import agree


def test_every_inner_product_is_computed_once(monkeypatch):
    """Six rows and their mean: at most 7 · 8 / 2 products for ranking, likeness, copies, idle."""
    asked, plain = [], Products._sum

    def counted(self, i, j):
        asked.append((i, j))
        return plain(self, i, j)

    monkeypatch.setattr(Products, "_sum", counted)
    rng = np.random.default_rng(1)
    roots = [bytes([i]) * 32 for i in range(6)]
    nodes = [bytes([i]) * 20 for i in range(6)]
    task = Task(1, tuple(zip(nodes, roots, [1] * 6, strict=True)), (), 16, b"b")
    Evaluator()(task, {root: rng.integers(-1000, 1000, 64) for root in roots})
    assert len(asked) == len(set(asked)) <= 28


def test_every_signature_is_checked_once_per_server():
    """Entries and final words of others, and no more; its own need no trust either."""
    chain = PoFEL(4, 0, ordering=RaftOrdering(), measure_cpu=False)
    chain.open(None)
    agree(chain)
    for server in chain.members:
        distinct = len(server.stream) + 4  # final words
        assert server.machine.check.done <= distinct + 5  # marks that came too late to count


def test_models_are_forgotten_when_the_next_round_begins():
    chain = PoFEL(4, 0, ordering=RaftOrdering(), measure_cpu=False)
    chain.open(None)
    for round_ in (1, 2, 3):
        agree(chain, round_)
        assert all(len(server.store._held) == 4 for server in chain.members)


def test_signatures_and_hashes_are_counted():
    """Four servers sign 5 entries and a final word each, one block and the marks, and recover each
    signature that they hear once; counted also where nobody asks for the time."""
    chain = PoFEL(4, 0, ordering=RaftOrdering(), measure_cpu=False)
    chain.open(None)
    cost = agree(chain).cost
    recovered = sum(server.machine.check.done for server in chain.members)
    stream = len(chain.members[0].stream)  # its marks may have been said by several servers
    assert 0 <= cost.signatures - recovered - (stream + 4) <= 10
    assert cost.hashes > cost.signatures and cost.cpu_s == 0.0
