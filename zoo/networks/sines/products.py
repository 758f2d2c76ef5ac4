"""Matrix products of a tile inside compiled loops, so that a tile passes all layers without Python in between.

LLVM does not find the form of a fast product in loops of numba, so its innermost part is written as LLVM's
instructions: `_block` holds a block of the result in registers. On one core it is as fast as the BLAS of torch or
faster, for matrices as small as here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...runtime.compiled import njit

LANES = 16  # columns of a block; width of a layer in multiples of this
ROWS = 6  # of a block: 12 registers of 8 numbers for sums, which leaves some of the 16 for what is multiplied
_UNITS = 4  # the same of a product with the transposed; it divides LANES


def _block(rows: int) -> Any:
    """A function for numba: out[i, j] (+)= sum over k of a[i, k] * b[k, j], for a block of rows and LANES columns.

    It takes three arrays of float32, each with the number of its first element and its strides in elements, the number
    of k's, and whether to add to what is there. Numbers along j lie side by side.
    """

    @intrinsic
    def block(
        _: Any, a: Any, a_at: Any, a_row: Any, a_k: Any, b: Any, b_at: Any, b_k: Any, k: Any,
        out: Any, out_at: Any, out_row: Any, add: Any,
    ) -> Any:  # fmt: skip
        size = types.intp
        kinds = (a, size, size, size, b, size, size, size, out, size, size, types.boolean)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            number, index = ir.FloatType(), ir.IntType(64)
            lanes = ir.VectorType(number, LANES)
            nothing, first = ir.Constant(lanes, ir.Undefined), ir.Constant(ir.IntType(32), 0)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

            def data(i: int) -> Any:
                return context.make_array(signature.args[i])(context, builder, args[i]).data

            def place(base: Any, start: Any, i: Any, stride: Any) -> Any:
                return builder.gep(base, [builder.add(start, builder.mul(i, stride))])

            def many(pointer: Any) -> Any:
                return builder.bitcast(pointer, lanes.as_pointer())

            _, a_at, a_row, a_k, _, b_at, b_k, k, _, out_at, out_row, add = args
            sums = [cgutils.alloca_once(builder, lanes) for _ in range(rows)]
            outs = [many(place(data(8), out_at, index(i), out_row)) for i in range(rows)]
            starts = [builder.add(a_at, builder.mul(index(i), a_row)) for i in range(rows)]
            with builder.if_else(add) as (then, otherwise):
                with then:
                    for total, place_out in zip(sums, outs, strict=True):
                        builder.store(builder.load(place_out, align=4), total)
                with otherwise:
                    for total in sums:
                        builder.store(ir.Constant(lanes, [0.0] * LANES), total)
            with cgutils.for_range(builder, k, intp=index) as loop:
                column = builder.load(many(place(data(4), b_at, loop.index, b_k)), align=4)
                for total, start in zip(sums, starts, strict=True):
                    one = builder.load(place(data(0), start, loop.index, a_k))
                    factor = builder.shuffle_vector(builder.insert_element(nothing, one, first), nothing, everywhere)
                    product = builder.fmul(factor, column, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
            for total, place_out in zip(sums, outs, strict=True):
                builder.store(builder.load(total), place_out, align=4)
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return block


_row_block: Callable[..., None] = _block(ROWS)
_unit_block: Callable[..., None] = _block(_UNITS)


@njit(nogil=True)
def multiply(x, panels, m, out):  # pragma: no cover
    """out <- x W for the first m rows.

    Args:
        x: Is (T, S), T a multiple of ROWS, of whose rows the first H numbers count.
        panels: Are W (H, H) cut into (H / LANES, H, LANES).
        m: Is the number of rows. Those after them, up to a multiple of ROWS, get arbitrary numbers.
        out: Is (T, S).
    """
    stride, width = x.shape[1], panels.shape[1]
    for panel in range(panels.shape[0]):
        for row in range(0, m, ROWS):
            at = row * stride
            _row_block(
                x, at, stride, 1, panels, panel * width * LANES, LANES, width,
                out, at + panel * LANES, stride, False,
            )  # fmt: skip


@njit(nogil=True)
def add_outer(g, x, m, out):  # pragma: no cover
    """out (H, H) <- out + g' x, summed over the first m rows of g and x, (T, S) each."""
    stride, width = x.shape[1], out.shape[1]
    for unit in range(0, width, _UNITS):
        for column in range(0, width, LANES):
            _unit_block(g, unit, 1, stride, x, column, stride, m, out, unit * width + column, width, True)


@njit(nogil=True)
def cut(matrices, transposed):  # pragma: no cover
    """N matrices (N, H, H), or transposed ones, as `multiply` takes them, (N, H / LANES, H, LANES)."""
    n, width = matrices.shape[0], matrices.shape[1]
    panels = np.empty((n, width // LANES, width, LANES), np.float32)
    for i in range(n):
        for panel in range(width // LANES):
            for row in range(width):
                for lane in range(LANES):
                    column = panel * LANES + lane
                    panels[i, panel, row, lane] = matrices[i, column, row] if transposed else matrices[i, row, column]
    return panels
