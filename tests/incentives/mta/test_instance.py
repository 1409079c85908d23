"""Values, times and limits by hand; oracle T1; generator; the public code's rewards."""

from itertools import product

import numpy as np
import pytest

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from incentives.mta.assignment import Assignment
from incentives.mta.generator import MTAGenerator
from incentives.mta.instance import MTAInstance
from incentives.mta.optimum import MTAOptimum

T1 = MTAInstance(
    price=np.array([9, 7, 6, 3, 4, 1, 1, 1]),
    data=np.array([11, 18, 17, 20, 15, 16, 20, 18]),
    limit=np.array([64, 55, 56, 94, 28, 82, 68, 1]),
    owner=np.array([2, 1, 1, 2, 0, 1, 0, 0]),
    capacity=np.array([308, 216, 260]),
    frequency=np.array([5, 5, 5]),
    cycles=np.array([1, 1, 2]),
    power=np.array([8, 6, 8]),
    rate=np.array([90.460883, 157.978622, 142.726898]),
)


def small(**changes) -> MTAInstance:
    """Two tasks, owned by servers 0 and 1; by hand below."""
    fields = dict(
        price=[2, 3], data=[10, 20], limit=[5, 30], owner=[0, 1], capacity=[40, 60],
        frequency=[4, 2], cycles=[2, 1], power=[6, 8], rate=[5, 10], alpha=0.01,
    )  # fmt: skip
    return MTAInstance(
        **{k: np.array(v) if isinstance(v, list) else v for k, v in (fields | changes).items()}
    )


def test_work_time_and_value_by_hand():
    """w = [[20, 10], [40, 20]]; seconds w/f, + 10/5 = 2 for task 0 away, + 20/10 = 2 for task 1
    away: [[5, 5 + 2], [10 + 2, 10]]. Computing energy .01 w f^2: [[3.2, .4], [6.4, .8]]; sending
    6 x 2 = 12 and 8 x 2 = 16: v = [[40 - 3.2, 20 - .4 - 12], [120 - 6.4 - 16, 60 - .8]]."""
    instance = small()
    assert instance.work.tolist() == [[20, 10], [40, 20]]
    assert instance.seconds == pytest.approx(np.array([[5, 7], [12, 10]]))
    assert instance.value == pytest.approx(np.array([[36.8, 7.6], [97.6, 59.2]]))
    assert instance.allowed.tolist() == [[True, False], [True, True]]  # 7 s is after the limit of 5
    assert instance.unit == pytest.approx(97.6)


def test_a_pair_without_value_or_room_is_not_useful():
    assert not small(price=[-1, 3]).useful[0].any()
    assert small(capacity=[39, 60]).allowed.tolist() == [[True, False], [False, True]]


def test_the_public_codes_reward():
    """Task 0 is too late at its owner (limit 4 < 5 s): the owner earns -6 x 2, the other 0."""
    legacy = small(limit=[4, 30], legacy_reward=True)
    assert legacy.reward == pytest.approx(np.array([[-12, 0], [97.6, 59.2]]))
    assert (small(limit=[4, 30]).reward == small().value).all()


def test_oracle_t1_against_all_assignments():
    """4^8 = 65,536 assignments, each checked by capacity, deadline and value."""
    best = 0.0
    value = np.append(np.where(T1.allowed, T1.value, -np.inf), np.zeros((8, 1)), axis=1)
    for servers in product(range(4), repeat=8):
        worth = value[range(8), servers].sum()
        if worth > best:
            found = Assignment(T1, np.where(np.array(servers) == 3, -1, servers))
            best = worth if not found.overfull else best
    assert best == pytest.approx(960.90927, abs=1e-4)
    solved = MTAOptimum()(T1)
    assert solved.proven and solved.assignment.value == pytest.approx(best, abs=1e-9)
    assert solved.bound == pytest.approx(best, rel=1e-6) and solved.gap == 0.0


def test_t1s_published_optimum():
    """Tasks 1 to 7 at server 2, the eighth rejected: load 2 x 117 = 234 <= 260."""
    found = Assignment(T1, [2, 2, 2, 2, 2, 2, 2, -1])
    assert found.value == pytest.approx(960.90927, abs=1e-4)
    assert found.load.tolist() == [0, 0, 234] and found.served == 7
    assert found.late == found.overfull == 0
    assert found.utilisation == pytest.approx(234 / 784) and found.jain == pytest.approx(1 / 3)


def test_an_assignment_counts_what_it_violates():
    found = Assignment(T1, [2, 2, 2, 2, 2, 2, 2, 2])  # 2 x 135 = 270 > 260; task 8 takes 7 s > 1
    assert found.overfull == 1 and found.late == 1
    nothing = Assignment(T1, [-1] * 8)
    assert nothing.value == 0 and nothing.jain == 1.0 and nothing.served == 0


def test_nothing_to_serve_is_solved():
    solved = MTAOptimum()(small(price=[-1, -1]))
    assert solved.proven and solved.assignment.served == 0 and solved.bound == 0 == solved.gap


@pytest.mark.parametrize("servers", [10, 20])
def test_published_settings(servers):
    instance = MTAGenerator(50, servers)(Seeds(0).at("x"))
    ranges = {
        "price": (1, 10), "data": (10, 20), "limit": (1, 100), "capacity": (200, 400),
        "frequency": (1, 10), "cycles": (1, 10), "power": (5, 10),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        x = getattr(instance, name)
        assert x.min() >= low and x.max() <= high and (x == x.round()).all(), name
    counts = np.bincount(instance.owner, minlength=servers)
    assert counts.max() - counts.min() <= 1  # an even split
    lowest, highest = 5 * np.log1p(25e6), 10 * np.log1p(100e6)
    assert lowest <= instance.rate.min() and instance.rate.max() <= highest


def test_both_ends_of_the_published_ranges_are_drawn():
    price = np.concatenate([MTAGenerator()(Seeds(s).at("x")).price for s in range(20)])
    assert set(price) == set(range(1, 11))


def test_same_seed_same_instance():
    one, other = (MTAGenerator()(Seeds(3).at("x")) for _ in range(2))
    assert (one.value == other.value).all()
    assert (one.value != MTAGenerator()(Seeds(4).at("x")).value).any()


def test_the_linear_bound_is_above_and_a_stopped_search_says_how_far():
    instance = MTAGenerator(20, 5)(Seeds(1).at("x"))
    solved = MTAOptimum()(instance)
    assert MTAOptimum().bound(instance) >= solved.assignment.value * (1 - 1e-9)
    hard = MTAGenerator(50, 10)(Seeds(5).at("x"))
    stopped = MTAOptimum(time_limit_s=0.05)(hard)
    assert stopped.bound >= stopped.assignment.value and 0 <= stopped.gap <= 1
    assert stopped.assignment.late == stopped.assignment.overfull == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: small(price=[1]), "MTA instance: data must hold 1 finite"),
        (lambda: small(price=[1, np.nan]), "price must hold 2 finite"),
        (lambda: small(rate=[0, 1]), "every rate must be above 0, got 0"),
        (lambda: small(capacity=[-1, 1]), "no capacity may be negative"),
        (lambda: small(owner=[0, 2]), "owners are servers 0 to 1, got 0 to 2"),
        (lambda: small(alpha=-1.0), "alpha must be 0 or more"),
        (lambda: MTAGenerator(0, 3), "at least one task and one server"),
        (lambda: MTAOptimum(0), "time_limit_s must be above 0"),
        (lambda: Assignment(small(), [0]), "one server for each of 2 tasks"),
        (lambda: Assignment(small(), [0, 2]), "names servers 0 to 1, or -1"),
    ],
)
def test_refuses(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
