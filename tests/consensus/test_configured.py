"""Every protocol and every fault that a config names is built and agrees on a round."""

import pytest

from consensus.protocol import Faulty, PoFEL
from experiments import catalogue, compose
from experiments.build import build
from tests.consensus.rounds import agree


def made(group, name):
    return compose._composed(f"{group}/{name}", None)[group]


@pytest.mark.parametrize("name", sorted(set(catalogue.names("consensus")) - {"none"}))
def test_a_protocol_agrees(name):
    node = {**made("consensus", name), "servers": 4, "seed": 0}
    if name == "pow":
        node |= {"ordering": {**node["ordering"], "interval_ms": 500.0, "depth": 1}}
    protocol = build(node)
    protocol.open(None)
    assert agree(protocol).members == (0, 1, 2, 3)


@pytest.mark.parametrize("name", catalogue.names("fault"))
def test_a_fault_is_one_server_s_and_the_others_agree(name):
    fault = build(made("fault", name))
    chain = PoFEL(4, 0, faults=[Faulty(fault, (3,))], measure_cpu=False)
    chain.open(None)
    verdict = agree(chain)
    assert {0, 1, 2} <= set(verdict.members)
    assert all(server == 3 for server, _ in verdict.strikes)
