"""Preference training over Flower's messages: the rows of this process, bit for bit."""

from functools import partial

import pytest
import torch

pytest.importorskip("flwr", reason="Flower is absent: pip install 'flwr>=1.41,<1.43'")
pytest.importorskip("transformers", reason="pip install 'fedalign[llm]'")

from fedalign.algorithms.client_momentum import ClientMomentum
from fedalign.core.seeds import Seeds
from fedalign.federation.runtimes.client_work import ClientWork, Site
from fedalign.federation.runtimes.flower import apps
from fedalign.federation.runtimes.flower.joined import joined
from fedalign.federation.runtimes.flower.runtime import Flower
from fedalign.federation.runtimes.inline import Inline
from tests import tiny_alignment


def test_dpo_over_messages_gives_the_rows_and_metrics_of_this_process(tmp_path):
    """Two rounds, so that memories of round 1, which lie at two nodes, shape those of round 2."""
    world = tiny_alignment.alignment()
    work = ClientWork(world, ClientMomentum(), Seeds(0))
    site = Site(work, partial(ClientWork, {}), block=2)
    with joined(apps.LocalGrid(apps.client_app(work, tmp_path), 2)):
        flower = Flower(site, nodes=2)
    inline = Inline(site)
    for round in (1, 2):
        tasks = tiny_alignment.tasks(world, range(3), round=round)
        ours, theirs = list(inline.run(tasks)), list(flower.run(tasks))
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.rows, b.rows) and torch.equal(a.samples, b.samples)
            assert a.clients.tolist() == b.clients.tolist() and a.failed == b.failed == {}
            assert set(a.metrics) == set(b.metrics)
            assert all(torch.equal(a.metrics[name], b.metrics[name]) for name in a.metrics)
    nodes = {p.parent.name for p in tmp_path.glob("*/*/*")}
    assert nodes == {"0", "1"}
