"""Worker processes that finish in any order, die or hang: the rows of everybody else are inline's."""

import multiprocessing
import os
import pickle
import signal
import time
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from fedalign.algorithms.client_momentum import ClientMomentum
from fedalign.core.contracts import ClientTask, Work
from fedalign.core.errors import ConfigError, FedalignError, QuorumLostError
from fedalign.core.seeds import Seeds
from fedalign.federation.runtimes.client_work import ClientWork, Site
from fedalign.federation.runtimes.inline import Inline
from fedalign.federation.runtimes.processes import Processes, _Worker
from fedalign.federation.runtimes.worker import pack, receive
from tests.worlds import tasks, workload

CLIENTS = 6


@dataclass(frozen=True)
class Mischief:
    """An algorithm whose clients misbehave in their rounds: {(round, client): what}; 'late' waits
    the longer the earlier its number."""

    acts: dict

    def client_step(self, world, block, memories):
        for task in block:
            act = self.acts.get((task.round, task.client))
            if act == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if act == "hang":
                time.sleep(60)
            if act == "late":
                time.sleep(0.15 * (CLIENTS - task.client))
            if act == "raise":
                raise ValueError("the disk is gone")
        return ClientMomentum().client_step(world, block, memories)


def make(acts, device=None):
    return ClientWork(workload(CLIENTS), Mischief(acts), Seeds(0))


def site(acts, block=2):
    return Site(make({}), partial(make, acts), block)


def played(runtime, rounds, world):
    return [list(runtime.run(tasks(world, range(CLIENTS), round=r))) for r in rounds]


def same(block, other):
    return torch.equal(block.rows, other.rows) and torch.equal(block.clients, other.clients)


@pytest.mark.slow
def test_deaths_and_hangs_cost_a_block_its_round_and_nobody_else():
    """Blocks {0,1} {2,3} {4,5}. Round 1: answers come in reverse order. Round 2: the worker of {2,3}
    is killed. Round 3: {0,1} hangs past the limit. Round 4: the momenta are those of an inline run
    in which the same clients missed the same rounds."""
    acts = {(1, c): "late" for c in range(CLIENTS)} | {(2, 2): "die", (3, 0): "hang"}
    world = make({}).workload
    runtime = Processes(site(acts), processes=2, timeout_s=2.5)
    try:
        first, second, third, fourth = played(runtime, (1, 2, 3, 4), world)
    finally:
        runtime.close()
    assert not any(worker.process.is_alive() for worker in runtime._workers)
    missed = {(2, 2): "raise", (2, 3): "raise", (3, 0): "raise", (3, 1): "raise"}
    one, two, three, four = played(Inline(Site(make(missed), None, 2)), (1, 2, 3, 4), world)
    assert all(map(same, first, one)) and all(map(same, fourth, four))
    assert same(second[0], two[0]) and same(second[2], two[2]) and same(third[1], three[1])
    ended = {
        2: "its worker process ended (exit code -9)",
        3: "its worker process ended (exit code -9)",
    }
    assert second[1].failed == ended and len(second[1].rows) == 0
    late = "its worker process gave no answer within 2.5 s"
    assert third[0].failed == {0: late, 1: late}
    assert not any(block.failed for block in (*first, *fourth))


@pytest.mark.slow
def test_what_cannot_start_says_so_and_too_few_stop_the_run():
    runtime = Processes(Site(make({}), partial(_broken), 2), processes=1)
    with pytest.raises(FedalignError, match="could not start: OSError: no such data"):
        list(runtime.run(tasks(make({}).workload, range(2))))
    runtime.close()


def _broken(device):
    raise OSError("no such data")


def test_messages_to_workers_keep_every_bit_and_share_what_is_shared():
    """NumPy knows no bfloat16; one model of two tasks arrives as one model."""
    half, model = torch.randn(5).bfloat16(), torch.randn(3)
    again, (one, two) = pickle.loads(pack((half, [model, model])))
    assert again.dtype == torch.bfloat16 and torch.equal(again, half)
    assert one is two and torch.equal(one, model)


def test_the_quorum_names_client_round_phase_and_cause():
    """One of six fails alone: 5/6 is enough for 0.8 and not for 0.9."""
    acts, world = {(2, 3): "raise"}, make({}).workload
    list(Inline(Site(make(acts), None, 2), quorum=0.8).run(tasks(world, range(CLIENTS), round=2)))
    with pytest.raises(QuorumLostError) as lost:
        list(Inline(Site(make(acts), None, 2), 0.9).run(tasks(world, range(CLIENTS), round=2)))
    assert str(lost.value) == (
        "Client 3 failed in round 2 while it was to train: ValueError: the disk is gone. "
        "5 of 6 clients answered, runtime.quorum=0.9 asks for more."
    )
    with pytest.raises(ConfigError, match=r"runtime\.timeout_s must be above 0"):
        Processes(site({}), timeout_s=0.0)


def test_jitter_changes_the_clock_and_nothing_else():
    world, given = make({}).workload, tasks(make({}).workload, range(2))
    hasty = ClientWork(world, ClientMomentum(), Seeds(0))
    calm = ClientWork(world, ClientMomentum(), Seeds(0), jitter_s=0.2)
    began = time.perf_counter()
    rows = calm(given, [{}, {}])[0].rows
    assert time.perf_counter() - began > 0.05
    assert torch.equal(rows, hasty(given, [{}, {}])[0].rows)
    with pytest.raises(ConfigError, match="jitter_s must be 0 or more"):
        ClientWork(world, ClientMomentum(), Seeds(0), jitter_s=-1.0)


def test_a_model_is_sent_once_for_as_long_as_it_stays_the_same():
    """The second block comes without it; a new model, or the same one written to, comes again."""
    here, there = multiprocessing.Pipe()
    worker, model = _Worker("cpu", None, here), torch.arange(4.0)

    def sent(vector):
        worker.deal([ClientTask("train", 0, 1, vector, Work())], [{}])
        (task,), _, came = receive(there)
        assert task.vector is None
        return None if came is None else came.tolist()

    assert sent(model) == [0, 1, 2, 3] and sent(model) is None
    model.add_(1)
    assert sent(model) == [1, 2, 3, 4] and sent(model) is None
    assert sent(model.clone()) == [1, 2, 3, 4]
    two = [ClientTask("train", c, 1, model + c, Work()) for c in range(2)]
    worker.deal(two, [{}, {}])
    (one, other), _, came = receive(there)
    assert came is None and other.vector.tolist() == [2, 3, 4, 5] and one.vector.tolist()[0] == 1
    one.vector.add_(1)  # what arrives may be written to
