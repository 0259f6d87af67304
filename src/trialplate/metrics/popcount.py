"""The compiled kernel of `coactivation`: ones of the AND of two bit rows, for all pairs. Needs numba, so it is imported only where it is asked for.

Work goes in tiles: 32 units by 64 words are 16 KiB, so the two sides of a tile of pairs fit a first-level cache together. Two rows meet two
rows at a time, so that each word loaded is used twice. LLVM turns `ctpop` into what the processor has: a vector popcount, a table
look-up in vector registers, or the scalar instruction. The kernel stays on the thread that calls it."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

_UNITS, _WORDS = 32, 64


@intrinsic
def _ones(_context: Any, _word: Any) -> Any:
    """Set bits of one 64-bit word."""

    def generate(_codegen: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@numba.njit(cache=True)
def pack_into(rows: np.ndarray, packed: np.ndarray) -> None:
    """`coactivation.pack`, four times as fast: token t becomes bit t mod 64 of word t // 64.

    rows: uint8 [token, unit], 0 or 1, contiguous. packed: uint64 [unit or more, word], zeros; further rows stay as they are."""
    n_tokens, n_units = rows.shape
    word = np.empty(n_units, dtype=np.uint64)
    for w in range(packed.shape[1]):
        word[:] = np.uint64(0)
        for bit in range(min(64, n_tokens - 64 * w)):
            row = rows[64 * w + bit]
            for unit in range(n_units):
                word[unit] |= np.uint64(row[unit]) << np.uint64(bit)
        for unit in range(n_units):
            packed[unit, w] = word[unit]


@numba.njit(cache=True)
def add_counts(packed: np.ndarray, counts: np.ndarray) -> None:
    """Add popcount(row_i & row_j) to counts[i, j], in place. Pairs are counted once and written on both sides of the diagonal.

    packed: uint64 [unit, word] with an even number of units; counts: int64 [unit, unit]."""
    n_units, n_words = packed.shape
    for first in range(0, n_words, _WORDS):
        last = min(first + _WORDS, n_words)
        for top in range(0, n_units, _UNITS):
            for left in range(top, n_units, _UNITS):
                for i in range(top, min(top + _UNITS, n_units), 2):
                    above, below = packed[i, first:last], packed[i + 1, first:last]
                    for j in range(max(i, left), min(left + _UNITS, n_units), 2):
                        one, two = packed[j, first:last], packed[j + 1, first:last]
                        n00 = n01 = n10 = n11 = np.uint64(0)
                        for w in range(last - first):
                            a, b, c, d = above[w], below[w], one[w], two[w]
                            n00 += _ones(a & c)
                            n01 += _ones(a & d)
                            n10 += _ones(b & c)
                            n11 += _ones(b & d)
                        counts[i, j] += np.int64(n00)
                        counts[i, j + 1] += np.int64(n01)
                        counts[i + 1, j] += np.int64(n10)
                        counts[i + 1, j + 1] += np.int64(n11)
                        if i != j:
                            counts[j, i] += np.int64(n00)
                            counts[j + 1, i] += np.int64(n01)
                            counts[j, i + 1] += np.int64(n10)
                            counts[j + 1, i + 1] += np.int64(n11)
