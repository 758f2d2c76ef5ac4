"""Compiled kernels of `zoo.networks.sines.tiles`: what happens to a tile of rows between two matrix products.

A tile is (rows, width) float32, contiguous. No two arguments overlap, or loops would not become vector instructions.
`fastmath` lets multiplications and additions fuse, and nothing else; not so in angles, which round as in the published
code, because the layers of a SIREN multiply every error by their frequencies. Sines are right within 1.3e-7 up to
angles of 1e5 (those of these fields reach some hundreds, where neighbouring angles are 3e-5 apart), where the processor
has fused multiply-adds: the angle is reduced to [-pi / 2, pi / 2] in two parts. Integers have 32 bits, as floats have;
with more there are no vector instructions.
"""

import numpy as np

from ...runtime.compiled import njit

_f = np.float32
_HALF_TURN = _f(np.pi)  # fused multiply-adds take its multiples off without rounding them
_HALF_TURN_LOW = _f(np.pi - float(_HALF_TURN))
_PER_HALF_TURN = _f(1 / np.pi)
_ROUND = _f(1.5 * 2**23)  # added, it leaves a whole number in the last bits
_ONE, _HALF, _END = _f(1), _f(0.5), _f(2)  # an end that only angles beyond 1e5 reach
# Polynomials in r^2, fitted at Chebyshev nodes to (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4.
_S0, _S1, _S2 = _f(-0.16666666663871807), _f(0.008333332766959604), _f(-0.0001984108608258268)
_S3, _S4 = _f(2.7536425040223018e-06), _f(-2.4079258699214603e-08)
_C0, _C1, _C2 = _f(0.04166666607252276), _f(-0.0013888812252026328), _f(2.4786046534490894e-05)
_C3 = _f(-2.654493465521022e-07)


@njit(nogil=True, fastmath={"contract"})
def _sin_cos(x):  # pragma: no cover
    """Sine and cosine of an angle; NaN for what is not finite, and beyond 1e7 any numbers in [-1, 1]."""
    turns = x * _PER_HALF_TURN + _ROUND
    n = turns - _ROUND
    r = (x - n * _HALF_TURN) - n * _HALF_TURN_LOW
    r = _END if r > _END else r  # written so that NaN stays
    r = -_END if r < -_END else r
    q = r * r
    sine = r + r * (q * (_S0 + q * (_S1 + q * (_S2 + q * (_S3 + q * _S4)))))
    cosine = (_ONE - _HALF * q) + q * (q * (_C0 + q * (_C1 + q * (_C2 + q * _C3))))
    sign = np.int32(np.float32(turns).view(np.int32) << np.int32(31))  # set where the half turns are odd
    return (
        np.int32(np.float32(sine).view(np.int32) ^ sign).view(np.float32),
        np.int32(np.float32(cosine).view(np.int32) ^ sign).view(np.float32),
    )


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
