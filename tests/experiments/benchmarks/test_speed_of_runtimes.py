"""The rivals of `scenario=speed_runtime` do the same work, and what is absent says so."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.benchmarks import memory, pfl_peer, runtime, runtime_cifar, runtime_rounds
from fedalign.core.contracts import State
from fedalign.core.errors import ConfigError, UnknownNameError
from fedalign.federation.round import global_round

PFL = os.environ.get("FEDALIGN_PFL_PYTHON")  # an interpreter that has pfl
SHAPE = runtime_cifar.Shape(clients=2, samples=10, dropout=(0.0, 0.0))  # one step per client


def named(world, vector):
    """A model by the names that pfl's driver gives its tensors."""
    places = dict(zip((1, 3, 8, 11), (0, 2, 7, 10), strict=True))
    views = world.layout.views(vector)
    return {f"layers.{places[int(n.split('.')[0])]}.{n.split('.')[1]}": v for n, v in views.items()}


def ours():
    parts = runtime_cifar.federation(SHAPE, 1)
    state = global_round(parts, State(0, parts.workload.initial()))[0]
    return named(parts.workload, state.model)


def test_a_bare_torch_client_ends_where_ours_do(tmp_path):
    """A round of two clients with one step each and no dropout: the mean of what plain torch
    trains from the file that the rivals get is our next model."""
    asked = dict(runtime_cifar.problem(SHAPE, tmp_path / "p"))
    file = runtime_cifar._opened(asked["problem"])
    network = runtime_cifar._network(asked)
    start = [file[name] for name, _ in network.named_parameters()]
    trained = [runtime_cifar._bare(asked, client, start) for client in (0, 1)]
    mine = ours()
    assert sorted(mine) == sorted(name for name, _ in network.named_parameters())
    for i, (name, _) in enumerate(network.named_parameters()):
        mean = (trained[0][i] + trained[1][i]) / 2
        assert np.allclose(mean, mine[name].numpy(), atol=1e-5), name


@pytest.mark.slow
@pytest.mark.skipif(PFL is None, reason="FEDALIGN_PFL_PYTHON=python that has pfl-research")
def test_a_round_of_pfl_ends_where_ours_does(tmp_path):
    with pfl_peer.Pfl(PFL, runtime_cifar.problem(SHAPE, tmp_path / "p")) as rival:
        rival.round()
        with np.load(rival.model()) as file:
            theirs = {name: torch.from_numpy(file[name]) for name in file}
    mine = ours()
    assert set(mine) == set(theirs)
    for name, value in mine.items():
        assert torch.allclose(value, theirs[name], atol=1e-5), name
    assert all(child.poll() is not None for child in rival._children)


def test_an_interpreter_without_pfl_says_what_to_install(tmp_path):
    empty = tmp_path / "python"
    empty.write_text("#!/bin/sh\nexit 1\n")
    empty.chmod(0o755)
    assert "pip install" in pfl_peer.absent(str(empty))
    assert "does not run" in pfl_peer.absent(str(tmp_path / "nowhere"))


def test_goals_are_multiples_of_our_overhead():
    rows = [
        {"runtime": "fedalign inline", "ms per client-round": 0.1},
        {"runtime": "pfl-research", "ms per client-round": 0.15},
        {"runtime": "Flower on Ray", "ms per client-round": 1.5},
    ]
    _, pfl, ray = runtime._compared(rows)
    assert (pfl["x fedalign inline"], pfl["met"]) == (1.5, False)
    assert (ray["x fedalign inline"], ray["met"]) == (15.0, True)


def test_a_runtimes_row_is_held_against_inline():
    """0.026 s against 0.02 s in rounds of 20 clients: 1.3 times, 0.3 ms per client."""
    found = {
        "inline": [{"round": 0.03, "rest": 1.0, "digest": "a"}, {"round": 0.02, "rest": 2.0, "digest": "a"}],
        "flower local": [{"round": 0.026, "rest": 3.0, "digest": "b"}],
    }  # fmt: skip
    row = runtime_rounds._row("flower local", found)
    assert (row["x inline"], row["overhead ms per client"], row["met"]) == (1.3, 0.3, True)
    assert row["same digest"] is False


def test_wrong_parts_and_counts_are_refused():
    with pytest.raises(UnknownNameError, match="cifar"):
        runtime.measure("cifr", 1)
    with pytest.raises(ConfigError, match="ascending"):
        memory.measure([10, 10])
    assert Path(pfl_peer._DRIVER).is_file()
