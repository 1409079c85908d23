"""Edges and their devices: who belongs where, and whose data is alike."""

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.partition.classes import Classes
from fedalign.data.partition.iid import Iid
from fedalign.federation.topology import Topology

LABELS = np.repeat(np.arange(10), 60)


def test_devices_are_dealt_in_order_and_nobody_is_lost():
    assert Topology(3).members(8) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert Topology(3, devices=[1, 5, 2]).members(8) == [[0], [1, 2, 3, 4, 5], [6, 7]]
    assert Topology().members(4) == [[0, 1, 2, 3]] and Topology().flat


def test_edge_rounds_count_on_over_global_ones():
    """K = 3: rounds 1, 2, 3 belong to global round 1, round 4 begins the second."""
    assert [Topology(2, 3).global_round(r) for r in (1, 3, 4, 6, 7)] == [1, 1, 2, 2, 3]


def _kinds(parts, members):
    """Classes seen by each device, and by each edge."""
    own = [set(LABELS[part]) for part in parts]
    return own, [set().union(*(own[c] for c in edge)) for edge in members]


@pytest.mark.parametrize("placement", ["as_dealt", "iid_within", "iid_across"])
def test_placement_says_where_data_are_alike(placement):
    """Two classes a part: as dealt every device has few; within an edge alike: edges have two
    classes and all their devices the same; across alike: every edge has many, its devices few."""
    topology = Topology(5, placement=placement)
    parts = topology.place(Classes(2))(LABELS, 30, Seeds(0).at("partition"))
    assert sorted(np.concatenate(parts)) == list(range(len(LABELS)))
    devices, edges = _kinds(parts, topology.members(30))
    if placement == "iid_within":
        assert all(len(kinds) == 2 for kinds in edges)
        assert all(devices[c] == edges[e] for e, m in enumerate(topology.members(30)) for c in m)
    else:
        assert all(len(kinds) <= 3 for kinds in devices)
    if placement == "iid_across":
        assert all(len(kinds) >= 5 for kinds in edges)


def test_a_flat_federation_deals_as_the_partition_says():
    assert Topology(placement="iid_within").place(partition := Iid()) is partition


@pytest.mark.parametrize(
    ("keys", "clients", "says"),
    [
        (dict(edges=5), 4, "Edge 4 has no devices .4 clients on 5 edges.: lower topology.edges"),
        (dict(edges=2, devices=[4, 0]), 4, "Edge 1 has no devices"),
        (dict(edges=2, devices=[4, 1]), 4, "are 5 devices, but clients=4"),
        (dict(edges=2, devices=[4]), 4, "lists 1 numbers for 2 edges"),
        (dict(edges=0), 4, "edges must be a whole number of 1 or more, got 0"),
        (
            dict(edge_rounds=0),
            4,
            "edge_rounds must be a whole number of 1 or more, got 0: a global",
        ),
        (dict(placement="iid"), 4, "placement is one of as_dealt, iid_within, iid_across"),
    ],
)
def test_what_it_refuses(keys, clients, says):
    with pytest.raises(ConfigError, match=says):
        Topology(**keys).members(clients)
