"""AUROC of one score with its uncertainty, and the difference of two scores of the same items. Symbols: P items are positive, N are not.

The placement of a positive is the share of negatives below it (ties half), that of a negative the share of positives above it; both average to
the AUROC, and their variances give its own: s_P^2 / P + s_N^2 / N (DeLong, DeLong and Clarke-Pearson 1988). For two scores of the same items
the placements are subtracted first, so that what both find hard cancels out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import wilson

Matrix = NDArray[np.float64]
Truth = NDArray[np.bool_]


def auroc_estimate(scores: ArrayLike, is_positive: ArrayLike, *, level: float = 0.95) -> Estimate:
    """AUROC in [0, 1] of scores [n] for labels [n]; 0.5 is chance, ties count half; n = items.

    stderr by DeLong; interval by Wilson's formula at A (1 - A) / stderr^2 items, at most n: perfect separation is not certainty.
    None for both where a class has one item. ValueError for scores that are not finite and for one class only."""
    values, positive = _checked(scores, is_positive)
    above, below = _placements(values, positive)
    share = float(above.mean())
    stderr = _stderr(above, below)
    if stderr is None:
        return Estimate(share, values.size, None, None, level, "DeLong")
    spread = math.sqrt(share * (1 - share))
    worth = min(spread / stderr, math.sqrt(values.size)) ** 2 if stderr > 0 else values.size
    return Estimate(share, values.size, stderr, wilson(share, worth, _z(level)), level, "DeLong, Wilson")


def auroc_difference(first: ArrayLike, second: ArrayLike, is_positive: ArrayLike, *, level: float = 0.95) -> Estimate:
    """AUROC of the first scores minus that of the second, both [n] and of the same items in the same order; in [-1, 1].

    stderr by DeLong from the differences of the placements, normal interval; None where a class has one item. ValueError as `auroc_estimate`,
    and for two numbers of items."""
    one, positive = _checked(first, is_positive)
    two, _ = _checked(second, is_positive)
    above, below = (a - b for a, b in zip(_placements(one, positive), _placements(two, positive), strict=True))
    value, stderr = float(above.mean()), _stderr(above, below)
    if stderr is None:
        return Estimate(value, one.size, None, None, level, "paired DeLong")
    half = _z(level) * stderr
    return Estimate(value, one.size, stderr, (value - half, value + half), level, "paired DeLong")


def _placements(values: Matrix, positive: Truth) -> tuple[Matrix, Matrix]:
    """Share of negatives below each positive [P], and of positives above each negative [N]; mid-ranks count ties half."""
    ranks = rankdata(values)
    n_positive = int(positive.sum())
    above = (ranks[positive] - rankdata(values[positive])) / (values.size - n_positive)
    below = 1 - (ranks[~positive] - rankdata(values[~positive])) / n_positive
    return above, below


def _stderr(above: Matrix, below: Matrix) -> float | None:
    if min(above.size, below.size) < 2:
        return None
    return math.sqrt(float(above.var(ddof=1)) / above.size + float(below.var(ddof=1)) / below.size)


def _checked(scores: ArrayLike, is_positive: ArrayLike) -> tuple[Matrix, Truth]:
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(is_positive)
    if values.ndim != 1 or values.size == 0 or positive.shape != values.shape:
        raise ValueError(f"AUROC wants one score and one label an item, got {values.shape} and {positive.shape}")
    if positive.dtype != np.bool_:
        raise ValueError(f"labels say true or false, got an array of {positive.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"score {int(np.argmax(~np.isfinite(values)))} of {values.size} is not finite; it has no rank")
    if positive.all() or not positive.any():
        raise ValueError(f"AUROC compares two classes: {int(positive.sum())} of {positive.size} items are positive")
    return values, positive


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}; 95 % is 0.95")
    return float(ndtri((1 + level) / 2))
