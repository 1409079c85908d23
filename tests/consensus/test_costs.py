"""What a round costs, by phase; a block inside another interrupts it."""

import pytest

from consensus.costs import Energy, Ledger, standing
from fedalign.core.agreement import Cost
from fedalign.core.errors import ConfigError


def test_time_counts_to_the_innermost_block():
    """Clock: outer begins at 0, inner from 2 to 5, outer ends at 9: 6 and 3 seconds."""
    times = iter([0.0, 2.0, 5.0, 9.0])
    ledger = Ledger(lambda: next(times))
    with ledger.working("order"), ledger.working("evaluate"):
        pass
    found = ledger.costs()
    assert (found["order"].cpu_s, found["evaluate"].cpu_s) == (2.0 + 4.0, 3.0)


def test_messages_bytes_and_seconds_add_up():
    ledger = Ledger(standing)
    ledger.sent("commit", 100)
    ledger.sent("commit", 50)
    ledger.sent("reveal", 1000, model=True)
    ledger.lasted("commit", 0.25)
    with ledger.working("commit"):
        pass
    costs = ledger.costs()
    assert list(costs) == ["commit", "reveal"]
    assert costs["commit"] == Cost(2, 150, 0, 0.0, 0.25)
    assert costs["commit"] + costs["reveal"] == Cost(3, 150, 1000, 0.0, 0.25)


def test_a_block_that_fails_is_charged_too():
    times = iter([0.0, 1.0])
    ledger = Ledger(lambda: next(times))
    with pytest.raises(ValueError), ledger.working("vote"):
        raise ValueError
    assert ledger.costs()["vote"].cpu_s == 1.0


def test_energy_by_hand():
    """8 W for 2 s, 10^6 bytes at 5e-8 J, 5.9e5 hashes in one core-second: 16 + 0.05 + 8 J."""
    assert Energy().joules(2.0, 1e6, 5.9e5) == pytest.approx(24.05)
    with pytest.raises(ConfigError, match="core_watts > 0"):
        Energy(core_watts=0.0)
