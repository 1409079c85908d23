"""Simulated time and energy, by hand."""

from math import inf, log2

import pytest

from fedalign.core.contracts import Work
from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.federation.clock import Untimed, Wireless

EVEN = Wireless(speed_ghz=(1.0, 1.0), snr_db=(10.0, 10.0))  # every device alike
BITS = 1e6
UPLOAD = BITS / (1e6 * log2(1 + 10))
LOADS = {0: (Work(2), 50), 1: (Work(2), 100), 2: (Work(steps=5), 100)}


def span(clock=EVEN, fates=None, waits=False):
    return clock.edge_round(LOADS, BITS, fates or {}, waits, Seeds(0))


def test_a_device_computes_then_uploads():
    """50 samples x 2 epochs x 1e7 cycles at 1 GHz is 1 s, 100 are 2 s, 5 steps of 32 are 1.6 s;
    1 Mbit at 1 MHz and 10 dB takes 1 / log2(11) s. Energy 1e-28 x cycles x 1e18 plus 0.2 W."""
    got = span()
    assert got.ready_s == pytest.approx({0: 1 + UPLOAD, 1: 2 + UPLOAD, 2: 1.6 + UPLOAD})
    assert got.seconds == pytest.approx(2 + UPLOAD)
    assert got.joules == pytest.approx(1e-28 * 1e18 * (1e9 + 2e9 + 1.6e9) + 3 * 0.2 * UPLOAD)


def test_a_missing_row_keeps_the_round_open_until_the_deadline():
    """1.2 times the slowest device, or the deadline that was set; rows of outages come later."""
    slowest = 2 + UPLOAD
    assert span(fates={0: "gone"}).seconds == pytest.approx(1.2 * slowest)
    assert span(fates={0: "gone"}).ready_s[0] == inf
    assert span(fates={0: "late"}).ready_s[0] == pytest.approx(1 + UPLOAD + 4 * 1.2 * slowest)
    fixed = Wireless(speed_ghz=(1.0, 1.0), snr_db=(10.0, 10.0), deadline_device_s=7.0)
    assert span(fixed, {0: "gone"}).seconds == 7.0 and span(fixed).seconds == pytest.approx(slowest)


def test_who_waits_waits_for_the_late_and_loses_patience_with_the_gone():
    limit = 1.2 * (2 + UPLOAD)
    assert span(fates={1: "late"}, waits=True).seconds == pytest.approx(2 + UPLOAD + 4 * limit)
    assert span(fates={1: "gone"}, waits=True).seconds == pytest.approx(10 * limit)


def test_the_gone_use_no_energy():
    assert span(fates={1: "gone"}).joules < span(fates={1: "late"}).joules == span().joules


def test_a_deadline_makes_stragglers_of_slow_devices():
    slow = Wireless(speed_ghz=(1.0, 1.0), snr_db=(10.0, 10.0), deadline_device_s=1.5)
    assert slow.slow(LOADS, BITS, Seeds(0)) == {1, 2} and EVEN.slow(LOADS, BITS, Seeds(0)) == set()
    assert span(slow, {1: "slow", 2: "slow"}).seconds == 1.5


def test_edges_meet_when_the_slowest_model_is_uploaded_and_sealed():
    clock = Wireless(edge_mbps=10.0, consensus_s=0.5)
    assert clock.meeting({0: 3.0, 1: 4.0}, BITS, {}, False).seconds == pytest.approx(4.6)
    met = clock.meeting({0: 3.0, 1: 4.0}, BITS, {1: "late"}, False)
    assert met.seconds == pytest.approx(1.2 * 4.1 + 0.5)


def test_devices_keep_their_speed_and_differ():
    clock = Wireless()
    own = [clock.own_s(u, (Work(1), 100), BITS, Seeds(0)) for u in range(20)]
    assert own == [clock.own_s(u, (Work(1), 100), BITS, Seeds(0)) for u in range(20)]
    assert len(set(own)) == 20 and own[0] != clock.own_s(0, (Work(1), 100), BITS, Seeds(1))


def test_untimed_takes_no_time():
    assert Untimed().edge_round(LOADS, BITS, {0: "gone"}, True, Seeds(0)).seconds == 0
    assert Untimed().meeting({0: 1.0}, BITS, {}, False).seconds == 0


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (dict(speed_ghz=(2.0, 1.0)), "speed_ghz is .low, high."),
        (dict(speed_ghz=(0.0, 1.0)), "speeds above 0"),
        (dict(bandwidth_mhz=0.0), "bandwidth_mhz must be positive, got 0.0"),
        (dict(deadline_device_s=-1.0), "deadline_device_s must be positive"),
        (dict(consensus_s=-1.0), "consensus_s of 0 or more"),
    ],
)
def test_what_it_refuses(keys, says):
    with pytest.raises(ConfigError, match=says):
        Wireless(**keys)
