"""Linearizability by hand: what one copy of a list could, and could not, have answered."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.raft.history import Operation, violation


def append(value, start, end):
    return Operation("k", start, end, value)


def read(seen, start, end):
    return Operation("k", start, end, None, tuple(seen))


def check(*operations, final="abc"):
    return violation(operations, {"k": tuple(final)})


def test_a_sequential_history_is_fine():
    assert not check(append("a", 0, 1), read("a", 2, 3), append("b", 4, 5), final="ab")


def test_overlapping_calls_may_take_effect_in_either_order():
    assert not check(append("a", 0, 9), append("b", 1, 8), read("b", 2, 3), final="ba")


def test_a_stale_read_is_noticed():
    assert "took effect before" in check(append("a", 0, 1), read("", 2, 3), final="a")


def test_reads_that_go_back_are_noticed():
    late = append("a", 0, 100)
    assert "took effect before" in check(late, read("a", 1, 2), read("", 3, 4), final="a")


def test_a_lost_acknowledged_append_is_noticed():
    assert "acknowledged append of b is lost" in check(append("b", 0, 1), final="a")


def test_an_unanswered_append_may_be_lost_or_late():
    assert not check(append("b", 0, None), final="")
    assert not check(append("b", 0, None), read("", 50, 60), read("b", 70, 80), final="b")


def test_a_read_of_something_that_never_was_is_noticed():
    assert "never was the list" in check(read("b", 0, 1), final="ab")


def test_appends_out_of_real_time_order_are_noticed():
    assert "took effect before" in check(append("a", 0, 1), append("b", 2, 3), final="ba")


def test_doubled_values_are_noticed():
    assert "appended twice" in check(read("", 0, 1), final="aa")


CALLS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 5), st.integers(-1, 3)), min_size=1, max_size=5
)


@settings(max_examples=300, deadline=None)
@given(CALLS, st.randoms(use_true_random=False))
def test_the_sweep_agrees_with_trying_all_orders(calls, random):
    """Wing and Gong by brute force: some order respects real time and every answer."""
    values = [str(i) for i, call in enumerate(calls) if call[2] < 0]
    random.shuffle(values)
    operations = []
    for number, (start, length, seen) in enumerate(calls):
        if seen < 0:
            operations.append(append(str(number), start, start + length))
        else:
            operations.append(read(values[:seen], start, start + length))
    assert (violation(operations, {"k": values}) == "") == _possible(operations, values)


def _possible(operations, final):
    for order in permutations(operations):
        state, good = [], True
        for position, call in enumerate(order):
            if any(later.finished_ns < call.started_ns for later in order[position + 1 :]):
                good = False
                break
            if call.value is not None:
                state.append(call.value)
            elif list(call.seen) != state:
                good = False
                break
        if good and state == list(final):
            return True
    return False
