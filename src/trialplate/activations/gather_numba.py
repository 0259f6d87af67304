"""Compiled loops: a down projection that reads only the rows of units that stay. Importing this module needs numba; `kernels` imports it when asked to.

Symbols: h = hidden [d], W = rows [d, d_out] stored unit after unit, c_i = |h_i| ||W_i||; all float32, one thread, products and sums in float32.

First the units are listed, then their rows are added up four at a time: the output is loaded and stored once for four rows, and the loop over
d_out has no branch, so it becomes vector instructions. A test inside the loop over units, which adds one row at a time, took 1.4 to 1.6 times as
long where 30 % of the units stay; where 3 % stay it is the shorter one, by the cost of a call (`benchmarks/dynamic_k.py`)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

# float32 patterns of numbers that are not negative sort as the numbers do: 31 bits, looked at in parts of 11, 10 and 10
N_COUNTS = 1 << 11


@njit(error_model="numpy")
def above(hidden: Floats, norms: Floats, limit: np.float32, chosen: Numbers) -> int:
    """Lists the units with c_i > limit, or c_i NaN, in `chosen` [d + 1]; returns how many."""
    n = 0
    for i in range(len(hidden)):
        chosen[n] = i
        n += not (abs(hidden[i]) * norms[i] <= limit)
    return n


@njit(error_model="numpy")
def largest(hidden: Floats, norms: Floats, n: int, scores: Floats, counts: Numbers, chosen: Numbers) -> int:
    """Lists the n units with the largest c_i in `chosen` [d + 1]; of equal ones at the edge, those with the lowest numbers. Returns n.

    Radix selection: three counts over d, in place of a sort. `scores` [d] and `counts` [2048] are room to work in."""
    d = len(hidden)
    for i in range(d):
        scores[i] = abs(hidden[i]) * norms[i]
    bits = scores.view(np.uint32)
    for i in range(d):
        bits[i] &= np.uint32(0x7FFFFFFF)  # a NaN may carry a sign
    left, edge = (
        n,
        np.uint32(0),
    )  # `edge` grows into the pattern of the n-th largest, `left` is how many of its equals stay
    for level in range(3):
        shift = np.uint32(20 - 10 * level)
        width = np.uint32(2047 if level == 0 else 1023)
        counts[: width + 1] = 0
        for i in range(d):
            if level == 0 or bits[i] >> (shift + np.uint32(10)) == edge:
                counts[(bits[i] >> shift) & width] += 1
        digit = width
        while counts[digit] < left:
            left -= counts[digit]
            digit -= np.uint32(1)
        edge = np.uint32((edge << np.uint32(10)) | digit)
    found = 0
    for i in range(d):
        is_equal = bits[i] == edge
        stays = bits[i] > edge or (is_equal and left > 0)
        left -= is_equal
        chosen[found] = i
        found += stays
    return found


@njit(error_model="numpy", fastmath={"contract"})
def project(hidden: Floats, chosen: Numbers, n: int, rows: Floats, bias: Floats, out: Floats) -> None:
    """out = bias + sum over the first n units of `chosen` of h_i W_i."""
    d_out = rows.shape[1]
    for j in range(d_out):
        out[j] = bias[j]
    whole = n - n % 4
    for k in range(0, whole, 4):
        a, b, c, e = chosen[k], chosen[k + 1], chosen[k + 2], chosen[k + 3]
        h_a, h_b, h_c, h_e = hidden[a], hidden[b], hidden[c], hidden[e]
        for j in range(d_out):  # indices, not views of rows: views take ten times as long to compile
            out[j] += h_a * rows[a, j] + h_b * rows[b, j] + h_c * rows[c, j] + h_e * rows[e, j]
    for k in range(whole, n):
        i = chosen[k]
        h = hidden[i]
        for j in range(d_out):
            out[j] += h * rows[i, j]
