"""The simulated network and disk: delays, faults and bandwidth with a pencil, chance by counting."""

import numpy as np
import pytest

from consensus.network.links import Constant, Link, LogNormal, Pareto
from consensus.network.simulated import Delivery, SimulatedNetwork, Timer
from consensus.network.simulated_disk import SimulatedDisk
from fedalign.core.errors import ConfigError


def network(seed=0, **link):
    return SimulatedNetwork(np.random.default_rng(seed), Link(**link))


def arrivals(net):
    found = []
    while (event := net.next()) is not None:
        found.append((net.now_ns, event))
    return found


def test_messages_arrive_after_the_latency_in_order_of_time_then_sending():
    net = network(latency=Constant(5))
    net.send(0, 1, "a", 10)
    net.send(0, 2, "b", 10)
    net.after(4_000, 7, "tick")
    assert arrivals(net) == [
        (4_000, Timer(7, "tick")),
        (5_000, Delivery(0, 1, "a", 10)),
        (5_000, Delivery(0, 2, "b", 10)),
    ]


def test_bandwidth_queues_messages():
    """1,000 bytes/s: 100 bytes take 0.1 s, the second waits for the first; links are separate."""
    net = network(latency=Constant(0), bytes_per_s=1000)
    for _ in range(2):
        net.send(0, 1, "x", 100)
    net.send(0, 2, "y", 50)
    assert [time for time, _ in arrivals(net)] == [50_000_000, 100_000_000, 200_000_000]


@pytest.mark.parametrize("reorder", [True, False])
def test_reordering_only_where_it_is_allowed(reorder):
    net = network(latency=LogNormal(1000, 1.0), reorder=reorder)
    for number in range(200):
        net.send(0, 1, number, 1)
    order = [event.payload for _, event in arrivals(net)]
    assert (order == sorted(order)) is not reorder


def test_loss_and_duplicates_are_counted():
    """2,000 messages, 10 % lost, 20 % of the rest doubled: 200 +- 60 and 360 +- 90."""
    net = network(loss=0.1, duplicate=0.2)
    for number in range(2000):
        net.send(0, 1, number, 3)
    delivered = len(arrivals(net))
    counters = net.counters
    assert (counters.sent, counters.bytes) == (2000, 6000)
    assert delivered == counters.delivered == 2000 - counters.lost + counters.duplicated
    assert abs(counters.lost - 200) < 60 and abs(counters.duplicated - 360) < 90


def test_a_partition_is_two_way_and_takes_what_is_on_its_way():
    net = network()
    net.send(0, 2, "under way", 1)
    net.partition([[0, 1], [2]])
    net.send(2, 1, "blocked", 1)
    net.send(0, 1, "inside", 1)
    assert [event.payload for _, event in arrivals(net)] == ["inside"]
    net.heal()
    net.send(2, 1, "again", 1)
    assert [event.payload for _, event in arrivals(net)] == ["again"]
    assert net.counters.blocked == 2


def test_a_one_way_block():
    net = network()
    net.block(0, 1)
    net.send(0, 1, "there", 1)
    net.send(1, 0, "back", 1)
    assert [event.payload for _, event in arrivals(net)] == ["back"]


def test_single_links_may_differ():
    net = SimulatedNetwork(np.random.default_rng(0), Link(Constant(1)), {(0, 1): Link(Constant(9))})
    net.send(0, 1, "slow", 1)
    net.send(1, 0, "fast", 1)
    assert [(t, e.payload) for t, e in arrivals(net)] == [(1_000, "fast"), (9_000, "slow")]


@pytest.mark.parametrize(
    ("latency", "low", "high"),
    [(LogNormal(1000, 0.5), 930, 1070), (Pareto(1000, 2.0), 1370, 1460)],
)
def test_medians_of_the_distributions(latency, low, high):
    """Lognormal: the median itself. Pareto: minimum * 2^(1/shape) = 1414."""
    rng = np.random.default_rng(1)
    assert low < np.median([latency.draw(rng) for _ in range(4000)]) < high


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Link(loss=1.5), lambda: Link(duplicate=-0.1), lambda: Link(bytes_per_s=-1),
        lambda: Constant(-1), lambda: LogNormal(0), lambda: LogNormal(1, -1.0),
        lambda: Pareto(0), lambda: Pareto(1, 0.0), lambda: Pareto(5, 1.0, 4),
    ],
)  # fmt: skip
def test_impossible_links_are_refused(wrong):
    with pytest.raises(ConfigError, match="of a link must be"):
        wrong()


# ---------------------------------------------------------------------- disk


def crashed(write, seeds=range(60)):
    """The different contents a crash leaves of file f, over many seeds."""
    found = set()
    for seed in seeds:
        disk = SimulatedDisk()
        disk.create("f", 0)
        disk.sync_names()
        write(disk)
        disk.crash(np.random.default_rng(seed))
        found.add(disk.read("f"))
    return found


def test_synced_bytes_survive_and_the_last_write_is_torn_anywhere():
    def write(disk):
        disk.write("f", 0, b"safe")
        disk.sync("f")
        disk.write("f", 4, b"abc")

    assert crashed(write) == {b"safe", b"safea", b"safeab", b"safeabc"}


def test_unsynced_writes_survive_independently():
    """None, the first, the second behind a hole (whole or cut to nothing), both."""

    def write(disk):
        disk.write("f", 0, b"A")
        disk.write("f", 1, b"B")

    assert crashed(write) == {b"", b"A", b"\0", b"\0B", b"AB"}


def test_names_are_durable_only_after_they_are_synced():
    seen = set()
    for seed in range(40):
        disk = SimulatedDisk()
        disk.create("old", 0)
        disk.sync_names()
        disk.rename("old", "new")
        disk.crash(np.random.default_rng(seed))
        seen.add(tuple(disk.names()))
    assert seen == {("old",), ("new",)}
