"""On how many tokens two units fire together: exact counts of all pairs, from one bit a firing.

Symbols: T = tokens, d = units, n_i = tokens on which unit i fires, C_ij = tokens on which i and j both fire; C_ii = n_i.

Three methods give equal counts; which one ran is kept with them:
* "popcount": ones of the AND of two bit rows, compiled (extra `numba`); the fastest on a CPU.
* "numpy":    the same without the extra.
* "gemm":     a product of 0/1 matrices in float32, what most people would write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt64

METHODS = ("popcount", "numpy", "gemm")
_EXACT = 2**24  # the last whole number up to which float32 counts without a gap
_BLOCK = 2_048  # tokens packed at once: with 2048 units their bits stay in a second-level cache
_AT_ONCE = 2**17  # words compared at once by "numpy": 1 MiB
_TILE = 128


@dataclass(frozen=True, eq=False)
class Coactivation:
    """Counts of one stream of tokens. Those of two streams add: `a + b`.

    n_tokens: T, at least 1. counts: C [d, d], symmetric, n_i on the diagonal. method: what counted them."""

    n_tokens: int
    counts: Int[np.ndarray, "unit unit"]
    method: str

    @property
    def firings(self) -> Int[np.ndarray, " unit"]:
        """n_i."""
        return self.counts.diagonal()

    def __add__(self, other: Coactivation) -> Coactivation:
        if self.counts.shape != other.counts.shape:
            raise ValueError(
                f"counts of two streams add up unit by unit, got {len(self.counts)} and {len(other.counts)} units; "
                "are they of one site?"
            )
        method = self.method if self.method == other.method else f"{self.method} + {other.method}"
        return Coactivation(self.n_tokens + other.n_tokens, self.counts + other.counts, method)


def count_coactivation(
    fires: Bool[np.ndarray, "token unit"], method: str = "numpy", *, flush: int = 16_384
) -> Coactivation:
    """C of firing patterns, exact whatever the method.

    flush: tokens that "gemm" turns into float32 and multiplies at once, at most 2^24 (beyond that float32 skips whole numbers); the
    others do not use it. ValueError for patterns that are empty or not bool, ImportError for "popcount" without numba."""
    if method not in METHODS:
        raise ValueError(f"co-activation is counted by one of {', '.join(METHODS)}; got {method!r}")
    _check(fires)
    if method == "gemm":
        return Coactivation(len(fires), _by_product(fires, flush), method)
    counts = _by_popcount(fires) if method == "popcount" else _by_numpy(pack(fires))
    return Coactivation(len(fires), counts, method)


def pack(fires: Bool[np.ndarray, "token unit"]) -> UInt64[np.ndarray, "unit word"]:
    """One row of bits a unit, 64 tokens a word, 0 after the last token. Which bit of a word a token becomes is left to the machine."""
    _check(fires)
    n_tokens, n_units = fires.shape
    rows = np.ascontiguousarray(fires).view(np.uint8)
    packed = np.zeros((-(-n_tokens // 64) * 8, n_units), dtype=np.uint8)  # [8 tokens, unit]
    for begin in range(0, n_tokens, _BLOCK):
        block, into = rows[begin : begin + _BLOCK], packed[begin // 8 : (begin + _BLOCK) // 8]
        for bit in range(8):
            part = block[bit::8]
            into[: len(part)] |= part << bit
    return np.ascontiguousarray(packed.T).view(np.uint64)


def _by_popcount(fires: np.ndarray) -> np.ndarray:
    try:
        from trialplate.metrics.popcount import add_counts, pack_into
    except ImportError as error:
        raise ImportError(
            f"method 'popcount' needs numba, which cannot be imported ({error}): pip install 'trialplate[numba]'; "
            "method 'numpy' gives the same counts without it"
        ) from error
    n_tokens, n_units = fires.shape
    even = n_units + n_units % 2  # the kernel takes rows two at a time
    packed = np.zeros((even, -(-n_tokens // 64)), dtype=np.uint64)
    counts = np.zeros((even, even), dtype=np.int64)
    pack_into(np.ascontiguousarray(fires).view(np.uint8), packed)
    add_counts(packed, counts)
    return counts[:n_units, :n_units]


def _by_numpy(packed: np.ndarray) -> np.ndarray:
    n_units, n_words = packed.shape
    counts = np.zeros((n_units, n_units), dtype=np.int64)
    width = max(1, _AT_ONCE // n_units)
    for begin in range(0, n_words, width):
        words = np.ascontiguousarray(packed[:, begin : begin + width])
        each = np.ones(
            words.shape[1], dtype=np.float32
        )  # a product sums bytes faster than `sum`; at most 64 * 2^17, so exactly
        for i in range(n_units):
            counts[i, i:] += (np.bitwise_count(words[i] & words[i:]).astype(np.float32) @ each).astype(np.int64)
    for i in range(0, n_units, _TILE):  # tile by tile, as a column of a large matrix costs a cache line a number
        tile = slice(i, i + _TILE)
        counts[tile, tile] += np.triu(counts[tile, tile], 1).T
        for j in range(i + _TILE, n_units, _TILE):
            counts[j : j + _TILE, tile] = counts[tile, j : j + _TILE].T
    return counts


def _by_product(fires: np.ndarray, flush: int) -> np.ndarray:
    if not 1 <= flush <= _EXACT:
        raise ValueError(
            f"'gemm' multiplies 1 to 2^24 = {_EXACT} tokens at once, got flush={flush}: float32 does not hold every whole number beyond; "
            "flush more often, the counts add up in int64"
        )
    counts = torch.zeros(fires.shape[1], fires.shape[1], dtype=torch.int64)
    for begin in range(0, len(fires), flush):
        part = torch.from_numpy(fires[begin : begin + flush].astype(np.float32))
        counts += (part.T @ part).to(torch.int64)
    return counts.numpy()


def _check(fires: np.ndarray) -> None:
    if not isinstance(fires, np.ndarray) or fires.dtype != np.bool_ or fires.ndim != 2 or fires.size == 0:
        got = f"{fires.dtype} {fires.shape}" if isinstance(fires, np.ndarray) else type(fires).__name__
        raise ValueError(f"firing patterns are a bool array [tokens, units], not empty; got {got}; pass h > threshold")
