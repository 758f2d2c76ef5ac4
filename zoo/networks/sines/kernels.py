"""Compiled kernels of `zoo.networks.sines.tiles`: what happens to a tile of rows between two matrix products.

A tile is (rows, width) float32, contiguous. No two arguments overlap, or loops would not become vector instructions.
`fastmath` lets multiplications and additions fuse, and nothing else; not so in angles, which round as in the published
code, because the layers of a SIREN multiply every error by their frequencies. For the same reason sines are rounded as
well as torch's, within 0.55 units in the last place up to angles of 1e4 (those of these fields reach some hundreds):
the angle is reduced to [-pi / 4, pi / 4] in two parts, and in each polynomial the small terms are added up first.
"""

import numpy as np

from ...runtime.compiled import njit

_f, _i = np.float32, np.int32
_QUARTER = _f(np.pi / 2)  # of a turn; fused multiply-adds take its multiples off without rounding them
_QUARTER_LOW = _f(np.pi / 2 - float(_QUARTER))
_PER_QUARTER = _f(2 / np.pi)
_ZERO, _ONE, _HALF = _f(0), _f(1), _f(0.5)
_TOO_LARGE = _f(2**24)
_FIRST, _SECOND = _i(1), _i(2)  # bits of the number of quarter turns
# Polynomials in r^2, fitted at Chebyshev nodes to (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4.
_S0, _S1 = _f(-0.16666666663857949), _f(0.008333331875503999)
_S2, _S3 = _f(-0.00019840087080241948), _f(2.7249963149954235e-06)
_C0, _C1, _C2 = _f(0.04166666466179694), _f(-0.0013888303336467356), _f(2.454799090416336e-05)


@njit(nogil=True, fastmath={"contract"})
def _sin_cos(x):  # pragma: no cover
    """Sine and cosine of an angle; NaN for what is not finite.

    Beyond 2^24, where neighbouring numbers are 2 apart, those of 0: a failed reduction would leave [-1, 1] far behind.
    """
    x = x if abs(x) < _TOO_LARGE else _ZERO * x
    turns = np.rint(x * _PER_QUARTER)
    high = x - turns * _QUARTER
    r = high - turns * _QUARTER_LOW
    low = (high - r) - turns * _QUARTER_LOW
    q = r * r
    sine = r + (low + r * (q * (_S0 + q * (_S1 + q * (_S2 + q * _S3)))))
    half = _HALF * q
    near = _ONE - half
    cosine = near + (((_ONE - near) - half) + (q * (q * (_C0 + q * (_C1 + q * _C2))) - r * low))
    n = _i(turns)
    s = cosine if n & _FIRST else sine
    c = sine if n & _FIRST else cosine
    return -s if n & _SECOND else s, -c if (n + _FIRST) & _SECOND else c


@njit(nogil=True)
def sine(x, frequency, phase, out):  # pragma: no cover
    """out <- sin(frequency * x + phase), with one frequency and phase per column."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = _sin_cos(frequency[j] * x[i, j] + phase[j])[0]


@njit(nogil=True)
def sine_cosine(x, frequency, phase, factor, sines, cosines):  # pragma: no cover
    """Of the same angles: sines <- sin, cosines <- factor * cos, with one factor per column."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            s, c = _sin_cos(frequency[j] * x[i, j] + phase[j])
            sines[i, j] = s
            cosines[i, j] = c * factor[j]


@njit(nogil=True, fastmath={"contract"})
def through_sine(g, cosine, total):  # pragma: no cover
    """g <- g * cosine, which takes a gradient from a sine's value to its angle; total <- sum of g over the rows."""
    total[:] = 0
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            value = g[i, j] * cosine[i, j]
            g[i, j] = value
            total[j] += value


@njit(nogil=True, fastmath={"contract"})
def through_sine_and_slope(g, cosine, bent, total):  # pragma: no cover
    """g <- g * cosine + bent, `bent` being what the angle gets through its cosine; total <- sum of g over the rows."""
    total[:] = 0
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            value = g[i, j] * cosine[i, j] + bent[i, j]
            g[i, j] = value
            total[j] += value


@njit(nogil=True, fastmath={"contract"})
def through_slope(g, cosine, back, sines):  # pragma: no cover
    """Of r = back * cosine: g <- g * cosine, the gradient of back, and back <- -g * back * sines, that of the angle."""
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            value = g[i, j]
            back[i, j] = -value * back[i, j] * sines[i, j]
            g[i, j] = value * cosine[i, j]
