"""The compiled loops of `passes`: what forward and backward do with the tiles of one object, from points to heads.

Arrays are float32 and contiguous. `first`, `towards`, `layers`, `density` and `colour` are W[0], D, W[1] to W[n], w and
K of `tiles`; `scaled` ones have FiLM multiplied in. What is not wanted, or not there, has length 0. A tile has `rows`
rows, a multiple of `products.ROWS`.
"""

import numpy as np

from ...runtime.compiled import njit
from .kernels import sine, sine_cosine, through_sine, through_sine_and_slope, through_slope
from .products import add_outer, cut, multiply

_f = np.float32


@njit(nogil=True)
def forward(
    points, directions, first, towards, layers, biases, frequencies, phases, density, colour,
    sigma, logits, gradient, products, rows,
):  # fmt: skip  # pragma: no cover
    n, width = len(layers), layers.shape[1]
    sloped = len(gradient) > 0
    panels, back = cut(layers, True), cut(layers if sloped else layers[:0], False)
    x, y = np.empty((rows, width), _f), np.empty((rows, width), _f)
    slopes = np.empty((n if sloped else 0, rows, width), _f)
    for start in range(0, len(points), rows):
        end = min(start + rows, len(points))
        m, kept = end - start, products[start:end]
        for i in range(n):
            if i == 0:
                _clear(y, m)
                _widen(points[start:end], first, y)
            else:
                multiply(x, panels[i - 1], m, y)
            _bias(y, biases[i], m, i, kept)
            if sloped:
                sine_cosine(y[:m], frequencies[i], phases[i], frequencies[i], x[:m], slopes[i][:m])
            else:
                sine(y[:m], frequencies[i], phases[i], x[:m])
        if len(sigma):
            _narrow(x, density, sigma[start:end])
        if len(logits):
            multiply(x, panels[n - 1], m, y)
            _widen(directions[start:end], towards, y)
            _bias(y, biases[n], m, n, kept)
            sine(y[:m], frequencies[n], phases[n], x[:m])
            _narrow(x, colour, logits[start:end])
        if sloped:
            _repeat(density, m, y)
            for i in range(n - 1, -1, -1):
                _times(y, slopes[i], m, x)
                if i > 0:
                    multiply(x, back[i - 1], m, y)
            _narrow(x, first, gradient[start:end])


@njit(nogil=True)
def backward(
    points, directions, first, towards, layers, biases, frequencies, phases, scaled_first, scaled_towards,
    scaled_layers, density, colour, products, g_sigma, g_logits, g_gradient, to_points, to_directions,
    sum_first, sum_towards, sum_layers, sum_angles, sum_density, sum_colour, rows,
):  # fmt: skip  # pragma: no cover
    n, width = len(layers), layers.shape[1]
    ready, curved = len(products) > 0, len(g_gradient) > 0
    panels = cut(layers[:0] if ready else layers, True)
    back, forth = cut(scaled_layers, False), cut(scaled_layers if curved else scaled_layers[:0], True)
    y, g, spare = np.empty((rows, width), _f), np.empty((rows, width), _f), np.empty((rows, width), _f)
    sines, cosines = np.empty((n, rows, width), _f), np.empty((n, rows, width), _f)
    bent = np.empty((n if curved else 0, rows, width), _f)
    total, ones = np.empty((1, width), _f), np.ones(width, _f)
    for start in range(0, len(points), rows):
        end = min(start + rows, len(points))
        m, kept = end - start, products[start:end]
        for i in range(n):
            if ready:
                _recall(kept, i, y)
            else:
                if i == 0:
                    _clear(y, m)
                    _widen(points[start:end], first, y)
                else:
                    multiply(sines[i - 1], panels[i - 1], m, y)
                _bias(y, biases[i], m, i, kept)
            sine_cosine(y[:m], frequencies[i], phases[i], ones, sines[i][:m], cosines[i][:m])
        if curved:  # from the gradient of d sigma / d point to those of weights, and of each layer's angles, in `bent`
            _repeat(density, m, bent[n - 1])  # u[n - 1]; each u makes room for what its cosine gives the angle
            for i in range(n - 1, 0, -1):
                _times(bent[i], cosines[i], m, g)
                multiply(g, back[i - 1], m, bent[i - 1])
            _times(bent[0], cosines[0], m, g)
            _add_narrow_outer(g_gradient[start:end], g, sum_first)
            _clear(spare, m)
            _widen(g_gradient[start:end], scaled_first, spare)
            for i in range(n):
                through_slope(spare[:m], cosines[i][:m], bent[i][:m], sines[i][:m])
                if i + 1 < n:
                    _times(bent[i + 1], cosines[i + 1], m, g)
                    add_outer(g, spare, m, sum_layers[i])
                    multiply(spare, forth[i], m, g)
                    g, spare = spare, g
            _add_sum(spare, m, sum_density[0])
        _clear(g, m)
        if len(g_logits):
            if ready:
                _recall(kept, n, y)
            else:
                multiply(sines[n - 1], panels[n - 1], m, y)
                _widen(directions[start:end], towards, y)
                _bias(y, biases[n], m, n, kept)
            sine_cosine(y[:m], frequencies[n], phases[n], ones, g[:m], spare[:m])
            _add_narrow_outer(g_logits[start:end], g, sum_colour)
            _clear(g, m)
            _widen(g_logits[start:end], colour, g)
            through_sine(g[:m], spare[:m], total[0])
            _add_sum(total, 1, sum_angles[n])
            add_outer(g, sines[n - 1], m, sum_layers[n - 1])
            _add_narrow_outer(directions[start:end], g, sum_towards)
            if len(to_directions):
                _narrow(g, scaled_towards, to_directions[start:end])
            multiply(g, back[n - 1], m, spare)
            g, spare = spare, g
        if len(g_sigma):
            _add_narrow_outer(g_sigma[start:end], sines[n - 1], sum_density)
            _widen(g_sigma[start:end], density, g)
        for i in range(n - 1, -1, -1):
            if curved:
                through_sine_and_slope(g[:m], cosines[i][:m], bent[i][:m], total[0])
            else:
                through_sine(g[:m], cosines[i][:m], total[0])
            _add_sum(total, 1, sum_angles[i])
            if i > 0:
                add_outer(g, sines[i - 1], m, sum_layers[i - 1])
                multiply(g, back[i - 1], m, spare)
                g, spare = spare, g
        _add_narrow_outer(points[start:end], g, sum_first)
        if len(to_points):
            _narrow(g, scaled_first, to_points[start:end])


@njit(nogil=True, fastmath={"contract"})
def _widen(values, weights, out):  # pragma: no cover
    """out (M, H) <- out + values weights, for a few values (m, k) and weights (k, H); m <= M."""
    for r in range(values.shape[0]):
        for k in range(values.shape[1]):
            value = values[r, k]
            for j in range(weights.shape[1]):
                out[r, j] += value * weights[k, j]


@njit(nogil=True, fastmath={"contract", "reassoc"})
def _narrow(x, weights, out):  # pragma: no cover
    """out (m, k) <- x weights', for weights (k, H) and the first rows of x (M, H)."""
    for r in range(out.shape[0]):
        for k in range(out.shape[1]):
            total = _f(0)
            for j in range(weights.shape[1]):
                total += x[r, j] * weights[k, j]
            out[r, k] = total


@njit(nogil=True, fastmath={"contract"})
def _add_narrow_outer(values, x, out):  # pragma: no cover
    """out (k, H) <- out + values' x, for values (m, k) and the first rows of x (M, H)."""
    for r in range(values.shape[0]):
        for k in range(values.shape[1]):
            value = values[r, k]
            for j in range(out.shape[1]):
                out[k, j] += value * x[r, j]


@njit(nogil=True)
def _bias(y, bias, m, i, kept):  # pragma: no cover
    """y <- y + bias in m rows, which also becomes the i-th part of the rows of `kept`, if it has some."""
    width = len(bias)
    for r in range(m):
        for j in range(width):
            y[r, j] += bias[j]
    for r in range(len(kept)):
        for j in range(width):
            kept[r, i * width + j] = y[r, j]


@njit(nogil=True)
def _recall(kept, i, y):  # pragma: no cover
    """y <- the i-th part of the rows of `kept`."""
    width = y.shape[1]
    for r in range(len(kept)):
        for j in range(width):
            y[r, j] = kept[r, i * width + j]


@njit(nogil=True)
def _clear(x, m):  # pragma: no cover
    """0 in m rows of x."""
    for r in range(m):
        for j in range(x.shape[1]):
            x[r, j] = 0


@njit(nogil=True)
def _times(x, y, m, out):  # pragma: no cover
    """out <- x * y in m rows."""
    for r in range(m):
        for j in range(x.shape[1]):
            out[r, j] = x[r, j] * y[r, j]


@njit(nogil=True)
def _repeat(row, m, out):  # pragma: no cover
    """out <- row (1, H) in m rows."""
    for r in range(m):
        for j in range(row.shape[1]):
            out[r, j] = row[0, j]


@njit(nogil=True)
def _add_sum(x, m, out):  # pragma: no cover
    """out (H,) <- out + the sum of m rows of x."""
    for r in range(m):
        for j in range(x.shape[1]):
            out[j] += x[r, j]
