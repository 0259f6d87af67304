"""Slopes of the recency bias of write logits, one a head (Press et al. 2022, arXiv:2108.12409; here with a plus sign: later tokens weigh more)."""

from __future__ import annotations

import math


def alibi_slopes(num_heads: int) -> list[float]:
    """Slope of each head: 2^(-8(i+1)/H) where H is a power of two; otherwise those of the next lower power, then every other one of the next higher."""
    lower = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / lower) for i in range(lower)]
    if lower == num_heads:
        return slopes
    return slopes + alibi_slopes(2 * lower)[0::2][: num_heads - lower]
