"""A rank group of two processes does what one process does."""

from dataclasses import replace
from importlib.util import find_spec
from math import log

import pytest
import torch

from fedalign.core.errors import ConfigError, FedalignError
from fedalign.federation.runtimes.rank_group import RankGroup
from fedalign.training import deepspeed
from fedalign.training.deepspeed import Zero
from tests import tiny_alignment
from tests.training import deepspeed_ranks


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="pip install 'fedalign[gpu]'")
def test_every_stage_trains_as_one_process_does():
    """Two gloo ranks, stages 1 to 3: rows within rounding, the same evaluation, moments anew for
    every client, a NaN that stops its client alone, and a killed rank that is told."""
    folder = str(tiny_alignment.folder())
    alone = deepspeed_ranks.alignment(None, folder)
    stages = (1, 2, 3)
    group = RankGroup(deepspeed_ranks.factory(stages, folder), deepspeed.join, deepspeed.leave, 2)
    try:
        assert group.layout == alone.layout and torch.equal(group.initial(), alone.initial())
        tasks = tiny_alignment.tasks(alone, [0, 1], steps=4)
        for stage in stages:
            mine = [replace(task, round=stage) for task in tasks]
            wanted, _ = alone.train(mine, [{}, {}])
            found, _ = group.train(mine, [{}, {}])
            apart = (found.rows - wanted.rows).norm(dim=1) / wanted.rows.norm(dim=1)
            assert float(apart.max()) < 1e-3, stage
            assert torch.allclose(
                found.metrics["train_loss"], wanted.metrics["train_loss"], atol=1e-5
            )
            again, _ = group.train(mine[1:], [{}])
            assert torch.allclose(again.rows[0], found.rows[1], atol=1e-7)
        assert group.evaluate(group.initial(), "server")["loss"] == pytest.approx(log(2), abs=1e-6)
        huge = replace(tasks[0], vector=tasks[0].vector + float("nan"))
        with pytest.raises(
            FedalignError, match=r"Client 0 failed in round 1 .*the loss of local step 1"
        ):
            group.train([huge], [{}])
        found, _ = group.train(tasks[:1], [{}])
        assert torch.isfinite(found.rows).all()
        with pytest.raises(ConfigError, match="take algorithm=fedavg"):
            group.train(tasks, [{}, {}], lambda g, p, s: g)
        group._ranks[1][0].kill()
        with pytest.raises(FedalignError, match=r"Rank 1 of the rank group ended .exit code -9"):
            group.train(tasks, [{}, {}])
        assert not group._ranks
    finally:
        group.close()


def test_refusals(monkeypatch):
    with pytest.raises(ConfigError, match=r"stage must be 1, 2 or 3, got 0"):
        Zero(0)
    with pytest.raises(ConfigError, match=r"processes must be 1 or more"):
        Zero(2, 0)
    monkeypatch.setattr(deepspeed, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed: pip install 'fedalign\[gpu\]'"):
        Zero()
