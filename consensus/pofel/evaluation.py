"""Evaluation: quantised updates, their mean and their likeness to it, in integers only.

Paper: Li, Hu, Wang, "PoFEL", arXiv 2308.07840, 2023 (models are evaluated to find the leader);
the exact arithmetic is our derivation, so that no two servers disagree about a last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from math import isqrt

import numpy as np

from fedalign.core.errors import ConfigError

LIMIT = 2**23 - 1  # |q| at most: products of 65536 values then stay below 2^62
MAX_SERVERS, MAX_SIZE, MAX_SCALE = 128, 2**32, 40
_CHUNK = 65_536


def quantize(update: np.ndarray, s: int) -> np.ndarray:
    """round_half_even(update · 2^s), clipped to ±(2^23 - 1): (d,) or (n, d) floats -> int64.

    s: 0 .. 40. Refuses values that are not finite: their integer differs between processors.
    """
    if not 0 <= s <= MAX_SCALE:
        raise ConfigError(f"The scale s is 0 .. {MAX_SCALE}, got {s}.")
    wide = np.array(update, dtype=np.float64)  # a copy: worked on in place
    if not np.isfinite(wide).all():
        raise ConfigError("An update holds NaN or infinity: it cannot enter consensus.")
    np.ldexp(wide, s, out=wide)
    np.rint(wide, out=wide)
    np.clip(wide, -LIMIT, LIMIT, out=wide)
    return wide.astype(np.int64)


def clipped(update: np.ndarray, s: int) -> int:
    """How many values `quantize` cuts off at its limit."""
    return int((np.abs(np.rint(np.ldexp(np.asarray(update, np.float64), s))) > LIMIT).sum())


def dequantize(values: np.ndarray, s: int) -> np.ndarray:
    """Integers -> dyadic float64, multiples of 2^-s; exact below 2^53."""
    return np.ldexp(values.astype(np.float64), -s)


def next_scale(s: int, aggregate_: np.ndarray) -> int:
    """The largest s with max|u| · 2^s < 2^22, in 0 .. 40; unchanged where the aggregate is 0."""
    top = int(np.abs(aggregate_).max(initial=0))
    return s if top == 0 else min(max(s + 22 - top.bit_length(), 0), MAX_SCALE)


def aggregate(qs: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """The mean weighted by `sizes`, rounded half up: floor((2 Σ D_e q_e + Σ D) / (2 Σ D))."""
    check_sizes(sizes)
    total, columns = sum(sizes), len(qs[0])
    result, scratch = np.empty(columns, np.int64), np.empty(min(columns, _CHUNK), np.int64)
    for start in range(0, columns, _CHUNK):  # what is added up stays in the cache
        part = result[start : start + _CHUNK]
        part.fill(total)
        for q, size in zip(qs, sizes, strict=True):
            product = np.multiply(q[start : start + _CHUNK], 2 * size, out=scratch[: len(part)])
            part += product
        np.floor_divide(part, 2 * total, out=part)
    return result


def check_sizes(sizes: Sequence[int]) -> None:
    """Raise ConfigError where the doubled sum could leave int64."""
    if not 0 < len(sizes) <= MAX_SERVERS:
        raise ConfigError(
            f"Exact aggregation takes 1 .. {MAX_SERVERS} servers (129 overflow 64 bits), got "
            f"{len(sizes)}."
        )
    if not all(0 < size < MAX_SIZE for size in sizes):
        raise ConfigError(f"Sample counts are 1 .. 2^32 - 1, got {list(sizes)}.")


def dot(a: np.ndarray, b: np.ndarray) -> int:
    """<a, b> as a Python integer; chunks small enough for int64 (65536 values below 2^23)."""
    return Products([a, b])(0, 1)


class Products:
    """Inner products of vectors (d,) int64 as Python integers, each computed once."""

    def __init__(self, vectors: Sequence[np.ndarray]):
        self._vectors, self._known = vectors, {}
        self._bits = [_bits(vector) for vector in vectors]

    def __call__(self, i: int, j: int) -> int:
        """<vector i, vector j>."""
        place = (min(i, j), max(i, j))
        if place not in self._known:
            self._known[place] = self._sum(*place)
        return self._known[place]

    def __len__(self) -> int:
        return len(self._vectors)

    def apart(self, i: int, j: int) -> int:
        """|vector i - vector j|²."""
        return self(i, i) + self(j, j) - 2 * self(i, j)

    def _sum(self, i: int, j: int) -> int:
        room = 62 - self._bits[i] - self._bits[j]
        if room < 0:
            raise ConfigError("The products of these values leave 64 bits: lower the scale s.")
        a, b, size = self._vectors[i], self._vectors[j], min(2**room, _CHUNK)
        return sum(int(np.dot(a[k : k + size], b[k : k + size])) for k in range(0, len(a), size))


def _bits(values: np.ndarray) -> int:
    return max(int(values.max(initial=0)), -int(values.min(initial=0))).bit_length()


def compare(dot_a: int, norm_a: int, dot_b: int, norm_b: int) -> int:
    """Sign of cos_a - cos_b from <u, G> and |u|², without a root; |u|² = 0 counts as cos 0."""
    left = dot_a * abs(dot_a) * (norm_b or 1)
    right = dot_b * abs(dot_b) * (norm_a or 1)
    return (left > right) - (left < right)


def rank_similarity(qs: Sequence[np.ndarray], G: np.ndarray) -> list[list[int]]:
    """Indices by cosine to G, best first; exact ties are one group, ascending."""
    return nearest_direction(Products([*qs, G]))


def nearest_direction(table: Products) -> list[list[int]]:
    """The same; the goal is the last vector of the table."""
    goal = len(table) - 1
    facts = [(table(i, goal), table(i, i)) for i in range(goal)]
    return groups(facts, lambda a, b: compare(*a, *b))


def rank_distance(qs: Sequence[np.ndarray], G: np.ndarray) -> list[list[int]]:
    """Indices by squared distance to G, nearest first; ties as groups."""
    return nearest_point(Products([*qs, G]))


def nearest_point(table: Products) -> list[list[int]]:
    """The same; the goal is the last vector of the table."""
    goal = len(table) - 1
    apart = [table.apart(i, goal) for i in range(goal)]
    return groups(apart, lambda a, b: (b > a) - (b < a))


def groups(facts: Sequence, compare_) -> list[list[int]]:
    """Indices sorted by an exact three-way comparison, best first, equal ones together."""
    order = sorted(range(len(facts)), key=cmp_to_key(lambda i, j: -compare_(facts[i], facts[j])))
    result: list[list[int]] = []
    for i in order:
        if result and compare_(facts[result[-1][0]], facts[i]) == 0:
            result[-1].append(i)
        else:
            result.append([i])
    return result


def similarity_ppb(q: np.ndarray, G: np.ndarray) -> int:
    """cos(q, G) · 10^9, cut towards zero; 0 where one of them is 0."""
    return cosine_ppb(Products([q, G]), 0, 1)


def cosine_ppb(table: Products, i: int, goal: int) -> int:
    """The same of two vectors of a table."""
    along, product = table(i, goal), table(i, i) * table(goal, goal)
    if product == 0 or along == 0:
        return 0
    size = isqrt(along * along * 10**18 // product)
    return size if along > 0 else -size


def copies(
    qs: Sequence[np.ndarray], delta_ppm: int = 1000, authors: Sequence[bytes] | None = None
) -> list[int]:
    """Indices of rows near an earlier row: |a - b|² <= δ² max(|a|², |b|²); rows in commit order.

    A copy of a copy copies the first. authors: nobody copies himself. Rows of zeros are idle,
    no copies.
    """
    return copied(Products(qs), range(len(qs)), delta_ppm, authors)


def copied(
    table: Products, rows: Sequence[int], delta_ppm: int, authors: Sequence[bytes] | None = None
) -> list[int]:
    """Positions in `rows` of copies; rows: vectors of the table in commit order."""
    authors = list(range(len(rows))) if authors is None else authors
    origin, found = list(authors), []
    for j in range(1, len(rows)):
        for i in range(j):
            longer = max(table(rows[i], rows[i]), table(rows[j], rows[j]))
            near = table.apart(rows[i], rows[j]) * 10**12 <= delta_ppm**2 * longer
            if table(rows[j], rows[j]) and near and origin[i] != authors[j]:
                origin[j] = origin[i]
                found.append(j)
                break
    return found


def idle(qs: Sequence[np.ndarray], squared_limit: int = 0) -> list[int]:
    """Indices of rows with |q|² <= the limit: no work was done (in units of 2^-2s)."""
    return [i for i, q in enumerate(qs) if dot(q, q) <= squared_limit]
