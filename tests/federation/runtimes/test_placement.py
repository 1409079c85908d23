"""Placement is arithmetic: which worker trains where, by hand; no device is touched."""

import pytest
import torch

from experiments import compose, federation_cell
from fedalign.core.contracts import ClientTask, Work
from fedalign.core.errors import ConfigError
from fedalign.federation.runtimes.placement import GIB, Place, seen, workers
from fedalign.federation.runtimes.worker import staged

CARDS = [Place("cuda:0", 40 * GIB), Place("cuda:1", 15 * GIB)]
CPU = [Place("cpu", 8 * GIB, slots=3)]


@pytest.mark.parametrize(
    ("places", "keys", "dealt"),
    [
        (CPU, {}, ["cpu"] * 2),
        (CARDS, {}, ["cuda:0", "cuda:1"]),
        (CARDS, {"processes": 3}, ["cuda:0", "cuda:1", "cuda:0"]),
        (CARDS, {"clients_per_device": 2}, ["cuda:0", "cuda:1"] * 2),
        # 40 // 16 = 2 on the first, 15 // 16 = 0 on the second
        (CARDS, {"client_gib": 16.0}, ["cuda:0"] * 2),
        # 40 // 10 = 4, but 3 at most; 15 // 10 = 1
        (CARDS, {"client_gib": 10.0, "clients_per_device": 3},
         ["cuda:0", "cuda:1", "cuda:0", "cuda:0"]),
        (CARDS, {"client_gib": 5.0, "processes": 4}, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        # 8 // 2 = 4 fit, three cores
        (CPU, {"client_gib": 2.0}, ["cpu"] * 3),
    ],
)  # fmt: skip
def test_workers_are_dealt_in_turn_as_far_as_there_is_room(places, keys, dealt):
    assert workers(places, **keys) == dealt


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"processes": 0}, "runtime.processes must be 1 or more"),
        ({"clients_per_device": 0}, "runtime.clients_per_device must be 1 or more"),
        ({"client_gib": 0.0}, "runtime.client_gib must be above 0"),
        ({"client_gib": 41.0}, r"41 fits on no device; free are: cuda:0 40.0 GiB, cuda:1 15.0 GiB"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_what_there_is(keys, why):
    with pytest.raises(ConfigError, match=why):
        workers(CARDS, **keys)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["runtime=processes", "runtime.processes=0"], "runtime.processes must be 1 or more"),
        (["runtime=processes", "runtime.devices=[cuda:7]"], "'cuda:7'; here are cpu"),
        (["runtime=processes", "runtime.client_gib=1000000"], "fits on no device; free are: cpu"),
        (["runtime=processes", "runtime.quorum=1.5"], r"runtime.quorum must lie in \[0, 1\]"),
        (["runtime=flower", "runtime.gpus=1.5"], "whole above 1, got 1 and 1.5"),
    ],
)  # fmt: skip
def test_a_study_is_refused_before_training(words, why):
    with pytest.raises(ConfigError, match=why):
        federation_cell.validate(compose.study(words).cells[0].config)


def test_this_machine_says_what_is_free():
    (place,) = seen(["cpu"])
    assert place.free_bytes > 0 and place.slots >= 1


def test_a_model_reaches_its_device_once_and_a_processor_moves_nothing():
    """Three tasks of two distinct models; on the device there are two tensors as well."""
    models = [torch.zeros(3), torch.ones(3)]
    tasks = [ClientTask("train", i, 1, models[i % 2], Work(1)) for i in range(3)]
    assert staged(tasks, torch.device("cpu"), pinned=True) is tasks
    there = staged(tasks, torch.device("meta"), pinned=False)
    assert all(task.vector.device.type == "meta" for task in there)
    assert there[0].vector is there[2].vector is not there[1].vector
    assert [task.client for task in there] == [0, 1, 2]
