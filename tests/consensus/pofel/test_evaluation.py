"""Exact arithmetic: oracles O-S and O-X, and properties against unbounded integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.pofel import beacon, evaluation, payload
from consensus.pofel.evaluation import aggregate, dot, quantize, rank_similarity, similarity_ppb
from consensus.pofel.tally import tally
from consensus.pofel.task import Evaluator, Task
from fedalign.core.errors import ConfigError, DataError

values = st.integers(-(2**23) + 1, 2**23 - 1)


def rows(n, d):
    return st.lists(st.lists(values, min_size=d, max_size=d), min_size=n, max_size=n)


def test_O_S_an_exact_tie():
    """w = ((1,0,0) + 2 (1,1,0) + (1,0,1) + (-1,0,1)) / 5 = (.6, .4, .4); rows 1 and 2 have the
    same inner product 1 and length 2 with it: a tie that floats may miss."""
    models = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [-1, 0, 1]], dtype=float)
    qs = [5 * quantize(row, 16) for row in models]  # five times: the mean is a whole number
    g = aggregate(qs, [1, 2, 1, 1])
    assert (g / 5 / 2**16).tolist() == [0.6, 0.4, 0.4]
    assert rank_similarity(qs, g) == [[1, 2], [0], [3]]
    likeness = [similarity_ppb(q, g) / 1e9 for q in qs]
    assert likeness == pytest.approx([0.727607, 0.857493, 0.857493, -0.171499], abs=1e-6)


def test_O_S_the_beacon_decides_between_them():
    nodes = [bytes([i]) * 20 for i in range(4)]
    for b in (b"x", b"y", b"z", b"w"):
        ranked = tally([nodes[1], nodes[2]], [5, 5], b, nodes)
        assert ranked.leader == min(nodes[1:3], key=lambda n: beacon.ticket(b, n))
    firsts = {tally([nodes[1], nodes[2]], [5, 5], bytes([b]), nodes).leader for b in range(20)}
    assert firsts == {nodes[1], nodes[2]}


def test_O_X_128_servers_fit_and_129_do_not():
    q, size = 2**23 - 1, 2**32 - 1
    assert 128 * (2 * size * q + size) == 9223371484951478400 < 2**63
    assert 129 * (2 * size * q + size) >= 2**63
    top = np.full(3, q, dtype=np.int64)
    assert aggregate([top] * 128, [size] * 128).tolist() == [q] * 3
    assert aggregate([-top] * 128, [size] * 128).tolist() == [-q] * 3
    with pytest.raises(ConfigError, match="129"):
        aggregate([top] * 129, [size] * 129)
    for bad in (0, 2**32):
        with pytest.raises(ConfigError, match="2\\^32"):
            aggregate([top], [bad])


def test_O_X_a_zero_update_ranks_between_for_and_against():
    goal = np.array([3, 4])
    qs = [np.array([-1, 0]), np.array([0, 0]), np.array([0, 1]), np.array([4, -3])]
    assert rank_similarity(qs, goal) == [[2], [1, 3], [0]]  # a right angle ties with zero


@given(qs=rows(3, 5), sizes=st.lists(st.integers(1, 2**32 - 1), min_size=3, max_size=3))
def test_the_mean_is_rounded_half_up(qs, sizes):
    found = aggregate([np.array(q) for q in qs], sizes)
    for column, value in enumerate(found.tolist()):
        exact = Fraction(sum(w * q[column] for w, q in zip(sizes, qs, strict=True)), sum(sizes))
        assert value == (exact + Fraction(1, 2)).__floor__()


@given(qs=rows(4, 6))
def test_the_order_is_that_of_exact_cosines(qs):
    """cos² with its sign, as fractions."""
    arrays = [np.array(q) for q in qs]
    goal = aggregate(arrays, [1] * 4)

    def exact(q):
        along, norm = dot(q, goal), dot(q, q)
        return Fraction(along * abs(along), norm) if norm else Fraction(0)

    found = rank_similarity(arrays, goal)
    keys = [exact(arrays[group[0]]) for group in found]
    assert keys == sorted(keys, reverse=True) and len(set(keys)) == len(keys)
    assert all(
        exact(arrays[i]) == key for group, key in zip(found, keys, strict=True) for i in group
    )
    for q in arrays:
        told = Fraction(similarity_ppb(q, goal), 10**9)
        square = exact(q) / dot(goal, goal) if dot(goal, goal) else Fraction(0)
        low, high = abs(told), abs(told) + Fraction(1, 10**9)
        assert low**2 <= abs(square) < high**2 and (told >= 0) == (square >= 0 or told == 0)


def test_products_of_the_largest_values_are_exact():
    top = np.full(200_001, 2**23 - 1, dtype=np.int64)
    assert dot(top, top) == 200_001 * (2**23 - 1) ** 2
    assert dot(top, -top) == -dot(top, top)
    with pytest.raises(ConfigError, match="64 bits"):
        dot(np.array([2**40]), np.array([2**40]))


def test_quantising_rounds_half_to_even_and_clips():
    s = 2
    found = quantize(np.array([0.125, 0.375, -0.125, 1.0, 1e9, -1e9]), s)
    assert found.tolist() == [0, 2, 0, 4, 2**23 - 1, -(2**23) + 1]
    assert evaluation.clipped(np.array([1e9, 1.0, -1e9]), s) == 2
    assert evaluation.dequantize(found[:4], s).tolist() == [0, 0.5, 0, 1.0]
    for bad in (np.nan, np.inf):
        with pytest.raises(ConfigError, match="cannot enter consensus"):
            quantize(np.array([bad]), s)
    with pytest.raises(ConfigError, match=r"0 \.\. 40"):
        quantize(np.zeros(1), 41)


@given(top=st.integers(1, 2**23 - 1), s=st.integers(0, 40))
def test_the_next_scale_is_the_largest_that_leaves_room(top, s):
    """The largest s' in 0 .. 40 with top 2^-s 2^s' < 2^22, or 0."""
    found = evaluation.next_scale(s, np.array([top, -top]))
    fits = [t for t in range(41) if Fraction(top) * Fraction(2) ** (t - s) < 2**22]
    assert found == max(fits, default=0)


def test_the_scale_stays_where_nothing_moved():
    assert evaluation.next_scale(7, np.zeros(3, np.int64)) == 7


def test_an_update_comes_back_from_its_bytes_and_damage_is_named():
    q = np.array([1, -2, 2**23 - 1], dtype=np.int64)
    data = payload.to_bytes(q, 16)
    found, s = payload.from_bytes(data)
    assert found.tolist() == q.tolist() and s == 16
    assert payload.root(q, 16) != payload.root(q, 15)
    for bad in (data[:-1], data + b"\0", b"no", data.replace(b"\x10\0\0", b"\x33\0\0", 1)):
        with pytest.raises(DataError):
            payload.from_bytes(bad)
    with pytest.raises(ConfigError, match="32 bits"):
        payload.to_bytes(np.array([2**31]), 16)


def test_coordinates_are_a_function_of_the_beacon():
    found = beacon.coordinates(b"b", 1000, 250_000)
    assert len(found) == 250 and found.tolist() == sorted(set(found.tolist()))
    assert found.tolist() == beacon.coordinates(b"b", 1000, 250_000).tolist()
    assert found.tolist() != beacon.coordinates(b"c", 1000, 250_000).tolist()
    assert len(beacon.coordinates(b"b", 3, 1)) == 1
    assert beacon.coordinates(b"b", 5, 1_000_000).tolist() == [0, 1, 2, 3, 4]


@given(st.permutations([b"a" * 32, b"b" * 32, b"c" * 32]))
def test_the_beacon_does_not_depend_on_who_revealed_first(nonces):
    assert beacon.advance(bytes(32), nonces) == beacon.advance(bytes(32), sorted(nonces))
    assert beacon.advance(bytes(32), nonces[:2]) != beacon.advance(bytes(32), nonces)


def task(qs, beacon_=b"b"):
    names = [bytes([i]) * 20 for i in range(len(qs))]
    roots = [payload.root(q, 16) for q in qs]
    servers = tuple((n, r, 1) for n, r in zip(names, roots, strict=True))
    return Task(1, servers, (), 16, beacon_), dict(zip(roots, qs, strict=True)), names


def test_metrics_look_at_what_they_say():
    """A is long and straight, B short and bent: by angle A, by distance to the mean B."""
    qs = [np.array([90_000, 0]), np.array([31_000, 9_000]), np.array([1_000, 500])]
    tasks, store, names = task(qs)
    mean = aggregate(qs, [1, 1, 1])
    assert mean.tolist() == [40_667, 3_167]
    found = {m: Evaluator(m)(tasks, store).best for m in ("cosine_update", "neg_l2_update")}
    assert found == {"cosine_update": (names[0],), "neg_l2_update": (names[1],)}
    model = np.array([0, 4_000_000])  # beside it, the updates barely turn the model
    weighted = Evaluator("cosine_weights")(tasks, store, model=model)
    assert min(x for _, x in weighted.likeness_ppb) > 999_000_000
    with pytest.raises(ConfigError, match="model"):
        Evaluator("cosine_weights")(tasks, store)


def test_spp_looks_at_the_coordinates_that_the_beacon_draws():
    rng = np.random.default_rng(1)
    qs = [rng.integers(-1000, 1000, 400) for _ in range(3)]
    tasks, store, names = task(qs, b"k")
    on = beacon.coordinates(b"k", 400, 500_000)
    goal = aggregate(qs, [1, 1, 1])
    found = dict(Evaluator("spp")(tasks, store).likeness_ppb)
    assert found == {n: similarity_ppb(q[on], goal[on]) for n, q in zip(names, qs, strict=True)}


def test_unknown_metrics_are_refused():
    with pytest.raises(ConfigError, match="cosine_update"):
        Evaluator("cosine")
    with pytest.raises(ConfigError, match="spp_ppm"):
        Evaluator(spp_ppm=0)
