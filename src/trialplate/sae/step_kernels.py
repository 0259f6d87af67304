"""Compiled loops of a sparse training step. Importing this module needs numba; `sparse_products` imports it when asked to.

Symbols: n tokens, m latents, d = d_out; token i has the entries starts[i] : starts[i + 1] of index and value. All numbers float32, one thread.

Searching. A row is looked at once, for the maxima of blocks of 32 entries, which are vector instructions; then only blocks that can hold something.
For the k largest: a limit that k maxima reach is reached by at least k entries, and when hardly more than k maxima reach it, by hardly more.

Decoding. A token's rows of the dictionary, k times d numbers, are read twice in a row: to write y', and when the error is known for its products
with them. The second time they come from the nearest cache, which is what torch, with one pass over all tokens for each, cannot have. Four rows at
a time: the output is loaded and stored once for four, and the loops over d have no branch, so they become vector instructions."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

BLOCK = 32
HALVINGS = 8
"""Steps towards a limit that k of the maxima reach: few enough to be quick, enough to be left with little more than k candidates."""


@njit(error_model="numpy", cache=True)
def above(pre: Floats, width: int, limit: np.float32, value: Floats, place: Numbers) -> int:
    """Lists the entries of the first `width` columns of pre [n, m] that are above a limit: values and places i width + j, in rising order.

    Returns how many there are; those for which the lists have no room are counted only. The last place of the lists is scratch."""
    found, last, n_blocks = 0, len(value) - 1, width // BLOCK
    blocks = np.empty(n_blocks + 1, np.int64)
    for i in range(pre.shape[0]):
        n = 0
        for b in range(n_blocks):
            blocks[n] = b
            n += _maximum(pre, i, b * BLOCK) > limit
        blocks[n] = n_blocks  # what is left of the row
        for c in range(n + 1):
            first = blocks[c] * BLOCK
            for j in range(first, min(first + BLOCK, width)):
                at = min(found, last)
                value[at] = pre[i, j]  # written always and kept by moving on: no branch to mispredict
                place[at] = i * width + j
                found += pre[i, j] > limit
    return found


@njit(error_model="numpy", cache=True)
def largest(pre: Floats, width: int, k: int, value: Floats, index: Numbers) -> None:
    """The k largest entries among the first `width` of every row of pre [n, m], in no order: value and index [n, k]. Wants k <= width // BLOCK.

    A row whose NaNs leave it without a limit gives NaN."""
    n_blocks = width // BLOCK
    maxima, blocks = np.empty(n_blocks, np.float32), np.empty(n_blocks + 1, np.int64)
    kept, places = np.empty(width + 1, np.float32), np.empty(width + 1, np.int64)
    for i in range(pre.shape[0]):
        for b in range(n_blocks):
            maxima[b] = _maximum(pre, i, b * BLOCK)
        limit, n, found = _reached(maxima, k), 0, 0
        for b in range(n_blocks):
            blocks[n] = b
            n += maxima[b] >= limit
        blocks[n] = n_blocks  # what is left of the row
        for c in range(n + 1):
            first = blocks[c] * BLOCK
            for j in range(first, min(first + BLOCK, width)):
                kept[found] = pre[i, j]
                places[found] = j
                found += pre[i, j] >= limit
        for e in range(found, k):
            kept[e], places[e] = np.nan, e
        _to_the_front(kept, places, found, k)
        for e in range(k):
            value[i, e] = kept[e]
            index[i, e] = places[e]


@njit(error_model="numpy", fastmath={"nnan", "nsz", "reassoc"}, cache=True)
def _maximum(pre: Floats, i: int, first: int) -> np.float32:
    """The largest entry of a block; NaN is not expected."""
    top = pre[i, first]
    for j in range(first + 1, first + BLOCK):
        top = max(top, pre[i, j])
    return top


@njit(error_model="numpy", cache=True)
def _reached(maxima: Floats, k: int) -> np.float32:
    """A limit that at least k of the maxima reach, by halving; not always the highest."""
    low, high = maxima.min(), maxima.max()
    for _ in range(HALVINGS):
        middle = np.float32(0.5) * (low + high)
        count = 0
        for b in range(len(maxima)):
            count += maxima[b] >= middle
        if count >= k:
            low = middle
        else:
            high = middle
    return low


@njit(error_model="numpy", cache=True)
def _to_the_front(kept: Floats, places: Numbers, n: int, k: int) -> None:
    """Hoare's selection: the k largest of the first n come first."""
    low, high = 0, n - 1
    while low < high:
        pivot, i, j = kept[(low + high) // 2], low, high
        while i <= j:
            while kept[i] > pivot:
                i += 1
            while kept[j] < pivot:
                j -= 1
            if i <= j:
                kept[i], kept[j] = kept[j], kept[i]
                places[i], places[j] = places[j], places[i]
                i, j = i + 1, j - 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@njit(error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def decode(
    starts: Numbers,
    index: Numbers,
    value: Floats,
    dictionary: Floats,
    offset: Floats,
    y: Floats,
    scale: np.float32,
    y_hat: Floats,
    pull: Floats,
    slope: Floats,
) -> np.float64:
    """y' [n, d] = f W + offset ([1, d] or [n, d]), pull [n, d] = scale (y' - y), slope [nnz] = <pull_i, W_j>. Returns the sum of ||y' - y||^2."""
    n, d = y.shape
    own = 1 if offset.shape[0] > 1 else 0
    squared = np.float64(0)
    for i in range(n):
        _write(i, i * own, starts, index, value, dictionary, offset, y_hat)
        error = np.float32(0)
        for j in range(d):
            e = y_hat[i, j] - y[i, j]
            error += e * e
            pull[i, j] = scale * e
        squared += error
        _slopes(i, starts, index, dictionary, pull, slope)
    return squared


@njit(error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def _write(
    i: int,
    i_offset: int,
    starts: Numbers,
    index: Numbers,
    value: Floats,
    dictionary: Floats,
    offset: Floats,
    y_hat: Floats,
) -> None:
    d = y_hat.shape[1]
    first, last = starts[i], starts[i + 1]
    whole = last - (last - first) % 4
    for j in range(d):
        y_hat[i, j] = offset[i_offset, j]
    for e in range(first, whole, 4):
        a, b, c, g = index[e], index[e + 1], index[e + 2], index[e + 3]
        f_a, f_b, f_c, f_g = value[e], value[e + 1], value[e + 2], value[e + 3]
        for j in range(d):  # indices, not views of rows: views take ten times as long to compile
            y_hat[i, j] += (
                f_a * dictionary[a, j] + f_b * dictionary[b, j] + f_c * dictionary[c, j] + f_g * dictionary[g, j]
            )
    for e in range(whole, last):
        a, f_a = index[e], value[e]
        for j in range(d):
            y_hat[i, j] += f_a * dictionary[a, j]


@njit(error_model="numpy", fastmath={"contract", "reassoc"}, cache=True)
def _slopes(i: int, starts: Numbers, index: Numbers, dictionary: Floats, pull: Floats, slope: Floats) -> None:
    d = pull.shape[1]
    first, last = starts[i], starts[i + 1]
    whole = last - (last - first) % 4
    for e in range(first, whole, 4):
        a, b, c, g = index[e], index[e + 1], index[e + 2], index[e + 3]
        s_a = s_b = s_c = s_g = np.float32(0)
        for j in range(d):
            p = pull[i, j]
            s_a += p * dictionary[a, j]
            s_b += p * dictionary[b, j]
            s_c += p * dictionary[c, j]
            s_g += p * dictionary[g, j]
        slope[e], slope[e + 1], slope[e + 2], slope[e + 3] = s_a, s_b, s_c, s_g
    for e in range(whole, last):
        a, s_a = index[e], np.float32(0)
        for j in range(d):
            s_a += pull[i, j] * dictionary[a, j]
        slope[e] = s_a
