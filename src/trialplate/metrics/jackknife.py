"""Uncertainty of a smooth function of sums, by leaving out one cluster at a time; for ratios whose parts may be negative.

Symbols: G clusters (documents), s_g [k] the sums of cluster g, t(s) the function. `statistics.ratio_of_sums` has a closed form where what is
divided by is a size; a difference of losses is not a size, and here no sign is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from trialplate.metrics.estimate import Estimate

Matrix = NDArray[np.float64]


def jackknife(
    sums: ArrayLike, statistic: Callable[[Matrix], NDArray[np.float64]], *, level: float = 0.95, name: str = "statistic"
) -> Estimate:
    """t(sum over g of s_g), with the spread that leaving out single clusters shows (Efron and Tibshirani 1993, chapter 11).

    sums       [G, k], a row a cluster
    statistic  called with sums [..., k], returns [...]; what it returns for all clusters is the value

    stderr^2 = (G - 1)/G sum_g (t_(g) - mean of them)^2, t_(g) without cluster g; interval by Student t with G - 1 degrees. For a mean of
    clusters of one size this is the usual standard error. One cluster: no stderr. Raises ValueError for sums that are not [G, k] or not
    finite, and where t is not finite: of all clusters, or of all but one."""
    table = np.asarray(sums, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"wanted sums [clusters, k], at least one of each, got shape {table.shape}")
    if not np.isfinite(table).all():
        row = int(np.argwhere(~np.isfinite(table))[0][0])
        raise ValueError(f"the sums of cluster {row} are not finite: {table[row].tolist()}")
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}; 95 % is 0.95")
    total, n = table.sum(0), len(table)
    value = float(statistic(total))
    method = f"{name}, jackknife over {n} clusters"
    if n == 1:
        return Estimate(value, n, None, None, level, method)
    without = np.asarray(statistic(total - table), dtype=np.float64)
    if not np.isfinite(without).all():
        raise ValueError(
            f"{name} is undefined without cluster {int(np.argmin(np.isfinite(without)))} of {n}: it hangs on that one; add documents"
        )
    stderr = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * stderr
    return Estimate(value, n, stderr, (value - half, value + half), level, method)
