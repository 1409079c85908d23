"""Compiled: the inner loops of the kernels, as machine code for the CPU at hand.

Import this inside functions only: numba takes half a second to load. What it compiles is kept
beside this file (or in the user's cache folder). Arrays are C-contiguous; the callers check.

Columns are worked on in blocks that stay in the cache. Where `_sums` allows it the compiler may
add in another order (that is what makes it wide), always the same one on one machine and for
any number of threads; `_exact` loops compute what is written.
"""

import numpy as np
from numba import njit

_exact = njit(cache=True, nogil=True)
_sums = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})

_inlined = njit(nogil=True, inline="always")

PIECE = 1024  # columns whose products are added up in float32 before float64 takes over
# Columns per block where every row is read once: long reads suit the memory, but float64 sums
# beyond 128 KB would be asked from the system, page by page, in every call.
_LONG = 12_288
_WIDENED = 256  # columns per block whose rows are kept in float64, for many lines
_SORTED = 128  # columns per block of a sorting network


@_sums
def products(rows, origin, total):
    """Add the inner products of float32 `rows` (n, d), each minus `origin` (d,) or None.

    total: (m, m) float64, m = n rounded up to a multiple of 4; the tiles on and above the
    diagonal are filled, what lies beyond row or column n means nothing.
    """
    n, columns = rows.shape
    moved = np.empty((0 if origin is None else n, PIECE), np.float32)
    for start in range(0, columns, PIECE):
        stop = min(start + PIECE, columns)
        if origin is None:
            _piece(rows, start, stop, total)
        else:
            for i in range(n):
                row, target = rows[i, start:stop], moved[i]
                from_origin = origin[start:stop]
                for c in range(stop - start):
                    target[c] = row[c] - from_origin[c]
            _piece(moved, 0, stop - start, total)


@_sums
def _piece(rows, start, stop, total):
    last = len(rows) - 1
    for i in range(0, len(rows), 4):
        a0, a1 = rows[i, start:stop], rows[min(i + 1, last), start:stop]
        a2, a3 = rows[min(i + 2, last), start:stop], rows[min(i + 3, last), start:stop]
        for j in range(i, len(rows), 4):
            b0, b1 = rows[j, start:stop], rows[min(j + 1, last), start:stop]
            b2, b3 = rows[min(j + 2, last), start:stop], rows[min(j + 3, last), start:stop]
            _tile(a0, a1, a2, a3, b0, b1, b2, b3, total, i, j)


@_inlined
def _tile(a0, a1, a2, a3, b0, b1, b2, b3, total, i, j):
    """Sixteen inner products at once: each value that is loaded is used four times."""
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = np.float32(0)
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = np.float32(0)
    for c in range(len(a0)):
        x0, x1, x2, x3 = a0[c], a1[c], a2[c], a3[c]
        y0, y1, y2, y3 = b0[c], b1[c], b2[c], b3[c]
        s00 += x0 * y0
        s01 += x0 * y1
        s02 += x0 * y2
        s03 += x0 * y3
        s10 += x1 * y0
        s11 += x1 * y1
        s12 += x1 * y2
        s13 += x1 * y3
        s20 += x2 * y0
        s21 += x2 * y1
        s22 += x2 * y2
        s23 += x2 * y3
        s30 += x3 * y0
        s31 += x3 * y1
        s32 += x3 * y2
        s33 += x3 * y3
    total[i + 0, j + 0] += s00
    total[i + 0, j + 1] += s01
    total[i + 0, j + 2] += s02
    total[i + 0, j + 3] += s03
    total[i + 1, j + 0] += s10
    total[i + 1, j + 1] += s11
    total[i + 1, j + 2] += s12
    total[i + 1, j + 3] += s13
    total[i + 2, j + 0] += s20
    total[i + 2, j + 1] += s21
    total[i + 2, j + 2] += s22
    total[i + 2, j + 3] += s23
    total[i + 3, j + 0] += s30
    total[i + 3, j + 1] += s31
    total[i + 3, j + 2] += s32
    total[i + 3, j + 3] += s33


@_sums
def combination(coefficients, rows, read, result):
    """result (d,) = sum of coefficients[k] rows[read[k]], added up in float64.

    The number of coefficients is a multiple of 8.
    """
    columns = rows.shape[1]
    total = np.empty(_LONG)
    for start in range(0, columns, _LONG):
        stop = min(start + _LONG, columns)
        total[:] = 0
        for k in range(0, len(read), 8):
            a0, a1, a2, a3, a4, a5, a6, a7 = coefficients[k : k + 8]
            x0, x1 = rows[read[k], start:stop], rows[read[k + 1], start:stop]
            x2, x3 = rows[read[k + 2], start:stop], rows[read[k + 3], start:stop]
            x4, x5 = rows[read[k + 4], start:stop], rows[read[k + 5], start:stop]
            x6, x7 = rows[read[k + 6], start:stop], rows[read[k + 7], start:stop]
            for c in range(stop - start):
                first = a0 * x0[c] + a1 * x1[c] + a2 * x2[c] + a3 * x3[c]
                total[c] += first + (a4 * x4[c] + a5 * x5[c] + a6 * x6[c] + a7 * x7[c])
        _copy(total[: stop - start], result[start:stop])


@_sums
def combinations(coefficients, rows, read, result):
    """result (k, d) = coefficients (m, r) times the rows read (r,), added up in float64.

    r and m are multiples of 4; lines from k on are not written.
    """
    columns = rows.shape[1]
    wide, total = np.zeros((len(read), _WIDENED)), np.empty((4, _WIDENED))
    for start in range(0, columns, _WIDENED):
        stop = min(start + _WIDENED, columns)
        for k in range(len(read)):
            _copy(rows[read[k], start:stop], wide[k, : stop - start])
        for line in range(0, len(coefficients), 4):
            total[:] = 0
            for k in range(0, len(read), 4):
                a0, a1, a2, a3 = coefficients[line, k : k + 4]
                b0, b1, b2, b3 = coefficients[line + 1, k : k + 4]
                c0, c1, c2, c3 = coefficients[line + 2, k : k + 4]
                d0, d1, d2, d3 = coefficients[line + 3, k : k + 4]
                for c in range(_WIDENED):
                    x0, x1, x2, x3 = wide[k, c], wide[k + 1, c], wide[k + 2, c], wide[k + 3, c]
                    total[0, c] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                    total[1, c] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                    total[2, c] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                    total[3, c] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
            for i in range(line, min(line + 4, len(result))):
                _copy(total[i - line, : stop - start], result[i, start:stop])


@_sums
def moments(rows, reference, shift, squares, inner):
    """Add |x_i|^2 and <x_i, reference>, x_i = rows[i] + shift, in float64.

    reference, shift: (d,) or None.
    """
    columns = rows.shape[1]
    for start in range(0, columns, _LONG):
        stop = min(start + _LONG, columns)
        for i in range(len(rows)):
            row = rows[i, start:stop]
            moved = row if shift is None else shift[start:stop]
            other = row if reference is None else reference[start:stop]
            square = product = 0.0
            for c in range(stop - start):
                x = np.float64(row[c])
                if shift is not None:
                    x += np.float64(moved[c])
                square += x * x
                if reference is not None:
                    product += x * np.float64(other[c])
            squares[i] += square
            inner[i] += product


@_exact
def window_means(rows, read, network, core, free, keep, result):
    """result (d,): per column, the mean of `keep` values around the middle of rows[read].

    network: (steps, 3), see `fedalign.core.network`, worked through block by block.
    The values at positions core[0] <= i < core[1] always count; of each pair i and i + keep,
    free[0] <= i < free[1], the one nearer the median counts, the lower if both are equally near.
    """
    n, columns = len(read), rows.shape[1]
    block, half = np.zeros((n, _SORTED), rows.dtype), rows.dtype.type(0.5)
    total = np.empty(_SORTED)
    low, high = block[(n - 1) // 2], block[n // 2]
    for start in range(0, columns, _SORTED):
        stop = min(start + _SORTED, columns)
        for i in range(n):
            _copy(rows[read[i], start:stop], block[i, : stop - start])
        _exchange(block, network)
        total[:] = 0
        for i in range(core[0], core[1]):
            value = block[i]
            for c in range(_SORTED):
                total[c] += value[c]
        for i in range(free[0], free[1]):
            below, above = block[i], block[i + keep]
            for c in range(_SORTED):
                middle = low[c] * half + high[c] * half  # halves first: no overflow
                near = above[c] - middle < middle - below[c]
                total[c] += above[c] if near else below[c]
        for c in range(stop - start):
            result[start + c] = total[c] / keep


@_exact
def _exchange(block, network):
    for step in range(len(network)):
        low, high = block[network[step, 0]], block[network[step, 1]]
        wanted = network[step, 2]
        if wanted == 3:
            for c in range(_SORTED):
                a, b = low[c], high[c]
                low[c] = a if a < b else b
                high[c] = b if b > a else a
        elif wanted == 1:
            for c in range(_SORTED):
                low[c] = low[c] if low[c] < high[c] else high[c]
        else:
            for c in range(_SORTED):
                high[c] = high[c] if high[c] > low[c] else low[c]


@_inlined
def _copy(source, target):
    """As a loop: numba does not widen the assignment of slices."""
    for c in range(len(source)):
        target[c] = source[c]
