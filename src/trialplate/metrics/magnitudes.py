"""How large activations are: exact counts over a fixed logarithmic grid, which add up, and what can be read from them.

The grid is the bfloat16 pattern of |h|: sign dropped, the 8 bits of exponent and 7 of mantissa are the number of the bin, 0 .. 32767. A bin is at
most 2^-7 of its lower edge wide (above 2^-126, the smallest normal number), so that sizes are told apart to 0.8 % from 1e-38 to 3e38,
whatever the scale of a layer. Bin 0 holds zeros, and what is below 2^-133 with them. Counts of parts of a stream add up to the counts of the whole.

All tokens and units are pooled: good for thresholds, quantiles and pictures of one site; per token and per unit see `sparsity` and `lifetime`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

N_BINS = 1 << 15
_INFINITE = 0x7F80  # the pattern of infinity; above it NaN
_ENTRIES_AT_ONCE = 1 << 20

EDGES: NDArray[np.float64] = (np.arange(_INFINITE + 1, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
"""Lower edges of bins 0 .. 32639, and at the end the upper edge of the last finite one, 2^128."""
EDGES[_INFINITE] = 2.0**128
EDGES.setflags(write=False)


class Share(NamedTuple):
    """A share of entries in [0, 1], with bounds: low <= the exact share <= high, both exact counts; `value` interpolates inside the bin."""

    value: float
    low: float
    high: float


class Lorenz(NamedTuple):
    """Points of a Lorenz curve from (0, 0) to (1, 1): the smallest entries up to each share of entries hold that share of the magnitude."""

    share_of_entries: NDArray[np.float64]
    share_of_magnitude: NDArray[np.float64]
    gini: float


def magnitude_counts(rows: Float[Tensor, "*shape"]) -> Int[Tensor, " 32768"]:
    """Entries in each bin, int64, on the device of the rows; any shape. float16 is widened (exactly), float64 rounded to float32 first.

    ValueError for entries that are NaN or infinite, and for no entries."""
    if not rows.numel() or not rows.is_floating_point():
        raise ValueError(f"magnitudes of floats are counted, at least one; got {rows.dtype} {list(rows.shape)}")
    counts = torch.zeros(N_BINS, dtype=torch.int64, device=rows.device)
    whole = (
        rows.numel() if rows.device.type != "cpu" else _ENTRIES_AT_ONCE
    )  # temporaries stay in the cache of a processor
    for part in rows.detach().reshape(-1).split(whole):
        counts += torch.bincount(_patterns(part), minlength=N_BINS)
    n_wrong = int(counts[_INFINITE:].sum())
    if n_wrong:
        raise ValueError(
            f"{n_wrong} of {rows.numel()} entries are NaN or infinite in float32; look for overflow in the model (float16?), do not drop the tokens"
        )
    return counts


def share_above(counts: ArrayLike, threshold: float) -> Share:
    """Share of entries with |h| > threshold, threshold >= 0; at 0 exact: all but bin 0.

    `high` counts the whole bin of the threshold, `low` none of it: they are the exact shares at two thresholds that enclose this one, at most
    2^-7 of it apart. `value` takes the bin as filled evenly. At the lower edge of a bin, value = high = the exact share of |h| >= threshold;
    rows in bfloat16 have all their entries on such edges, so that `low` is exact for them at any threshold."""
    whole, n = _counts(counts)
    if not 0 <= threshold < EDGES[-1]:
        raise ValueError(f"a threshold of magnitudes is finite and not negative, below 2^128, got {threshold}")
    own = int(np.searchsorted(EDGES, threshold, side="right")) - 1
    above, inside = int(whole[own + 1 :].sum()), int(whole[own])
    if own == 0:
        return Share(above / n, above / n, (above if threshold == 0 else above + inside) / n)
    part = (EDGES[own + 1] - threshold) / (EDGES[own + 1] - EDGES[own])
    return Share((above + part * inside) / n, above / n, (above + inside) / n)


def quantile(counts: ArrayLike, q: float) -> float:
    """The magnitude below which a share q of the entries lies, q in [0, 1]; within 2^-7 of the exact one, linear inside the bin.

    0 where that share is zeros. q = 0 and 1 give the edges that enclose all entries. Inverse of `share_above`."""
    whole, n = _counts(counts)
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile belongs to a share in [0, 1], got {q}; the median is 0.5")
    below = np.cumsum(whole)
    own = int(np.searchsorted(below, max(q * n, 1), side="left"))  # the bin of the entry of that rank, counted from 1
    if own == 0:
        return 0.0
    part = max(0.0, (q * n - (below[own] - whole[own])) / whole[own])
    return float(EDGES[own] + part * (EDGES[own + 1] - EDGES[own]))


def act_frac_sd(counts: ArrayLike, sd: float, c: float = 0.1) -> Share:
    """act_frac@sd: share of entries with |h| > c * sd, scale free for a site. sd is not in the counts: give `layer_sd` of the same tokens."""
    if not (math.isfinite(sd) and sd > 0 and c > 0):
        raise ValueError(
            f"wanted a standard deviation and a factor above 0, got sd={sd}, c={c}; a site that never moves has no such share"
        )
    return share_above(counts, c * sd)


def layer_sd(mean: ArrayLike, m2: ArrayLike, n: int) -> float:
    """Standard deviation of all entries of a site about their common mean, from mean [d] and m2 [d] (sum of squared deviations) over n tokens.

    variance = (sum_i m2_i + n sum_i (mean_i - grand mean)^2) / (n d)."""
    centres, squares = (np.asarray(values, dtype=np.float64) for values in (mean, m2))
    if centres.ndim != 1 or centres.shape != squares.shape or not centres.size or n < 1:
        raise ValueError(f"wanted mean [d] and m2 [d] of n >= 1 tokens, got {centres.shape}, {squares.shape}, n={n}")
    variance = float(squares.sum() / n + np.square(centres - centres.mean()).sum()) / centres.size
    if not math.isfinite(variance) or squares.min() < 0:
        raise ValueError(
            f"moments are finite, and squares not negative; got a variance of {variance}; look for overflow in the model"
        )
    return math.sqrt(variance)


def lorenz(counts: ArrayLike, points: int | None = None) -> Lorenz:
    """Lorenz curve of |h| and the gini of all entries, every entry taken at the middle of its bin, i.e. within 2^-8 of its size.

    gini = 1 - 2 * (area under the curve), off by at most (1 - gini) 2^-7. points: so many, evenly spaced over the share of entries; None: one
    for every bin that is not empty. ValueError where all entries are zero: there is no magnitude to share."""
    whole, n = _counts(counts)
    used = np.flatnonzero(whole)
    if not used[-1]:
        raise ValueError(f"all {n} entries are zero, so that no share of the magnitude is defined; is the site dead?")
    if points is not None and points < 2:
        raise ValueError(f"a curve has at least 2 points, got {points}")
    middles = np.where(used == 0, 0.0, (EDGES[used] + EDGES[used + 1]) / 2)
    entries = np.concatenate([[0.0], np.cumsum(whole[used]) / n])
    sizes = np.cumsum(whole[used] * (middles / middles[-1]))
    magnitude = np.concatenate([[0.0], sizes / sizes[-1]])
    gini = 1 - float((np.diff(entries) * (magnitude[1:] + magnitude[:-1])).sum())
    if points is not None:
        grid = np.linspace(0, 1, points)
        entries, magnitude = grid, np.interp(grid, entries, magnitude)
    return Lorenz(entries, magnitude, max(0.0, gini))


def _patterns(part: Tensor) -> Tensor:
    if part.dtype == torch.bfloat16:
        return part.view(torch.int16).bitwise_and(0x7FFF)
    return (part.float().view(torch.int32) >> 16).bitwise_and_(0x7FFF)


def _counts(counts: ArrayLike) -> tuple[NDArray[np.int64], int]:
    whole = np.asarray(counts)
    if (
        whole.shape != (N_BINS,)
        or not np.issubdtype(whole.dtype, np.integer)
        or whole.min() < 0
        or whole[_INFINITE:].any()
    ):
        raise ValueError(
            f"wanted the counts of magnitude_counts, {N_BINS} integers of finite entries; got {whole.dtype} {whole.shape}"
        )
    n = int(whole.sum())
    if n == 0:
        raise ValueError("the counts are all zero: nothing was measured")
    return whole.astype(np.int64), n
