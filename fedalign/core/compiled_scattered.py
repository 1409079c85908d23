"""The inner loops of `scattered`, as machine code; import it inside functions only."""

from fedalign.core.compiled import _sums


@_sums
def add_eight(a, x0, x1, x2, x3, x4, x5, x6, x7, start, stop, total):
    """total[: stop - start] += a[0] x0[start:stop] + ... + a[7] x7[start:stop], in float64.

    a: (8,) float64. x0 ... x7: (d,) float32. total: float64, at least stop - start long.
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
    y0, y1, y2, y3 = x0[start:stop], x1[start:stop], x2[start:stop], x3[start:stop]
    y4, y5, y6, y7 = x4[start:stop], x5[start:stop], x6[start:stop], x7[start:stop]
    for c in range(stop - start):
        first = a0 * y0[c] + a1 * y1[c] + a2 * y2[c] + a3 * y3[c]
        total[c] += first + (a4 * y4[c] + a5 * y5[c] + a6 * y6[c] + a7 * y7[c])


@_sums
def add_four(a, x0, x1, x2, x3, start, stop, total):
    """The same with four vectors; a: (4,)."""
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    y0, y1, y2, y3 = x0[start:stop], x1[start:stop], x2[start:stop], x3[start:stop]
    for c in range(stop - start):
        total[c] += a0 * y0[c] + a1 * y1[c] + (a2 * y2[c] + a3 * y3[c])
