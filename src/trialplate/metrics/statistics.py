"""Means, proportions and ratios with their uncertainty, in float64 and closed form; only the bootstrap draws, from the generator it is given.

Symbols: x_i = the value of item i, n = items, G = clusters (templates, documents) inside which items resemble each other.
One item, or one cluster, has no spread to show: the estimate then holds its value, and None for standard error and interval.
Every function raises ValueError for input that is empty, not finite or of the wrong shape, and names the argument."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from trialplate.metrics.estimate import Estimate

Vector = NDArray[np.float64]
_LARGEST_LOG = math.log(np.finfo(np.float64).max)
_DRAWN_AT_ONCE = 2_000_000  # resampled values held in memory: 16 MB


def mean(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Arithmetic mean of independent values; stderr = s / sqrt(n) with s on n - 1, interval by Student t with n - 1 degrees."""
    return _mean("mean", _vector("values", values), None, level)


def clustered_mean(values: ArrayLike, clusters: Iterable[Hashable], *, level: float = 0.95) -> Estimate:
    """Mean over items that come in clusters; one label an item.

    var = G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2  (the CR1 form), interval by Student t with G - 1 degrees.
    With one item a cluster this is `mean`. The value weighs items, not clusters, equally. One cluster in all: no stderr."""
    vector = _vector("values", values)
    return _mean("mean", vector, _codes(clusters, vector.size), level)


def proportion(correct: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of correct items. Each value lies in [0, 1]: 0 or 1, or part of a credit (0.5 for a tie of two).

    stderr = s / sqrt(n) with s on n - 1; interval by Wilson's score formula (1927), which does not shrink to nothing when all
    items are right. Partial credits vary less than coins of the same mean, so for them the interval errs on the wide side."""
    return _proportion(_credits(correct), None, level)


def clustered_proportion(correct: ArrayLike, clusters: Iterable[Hashable], *, level: float = 0.95) -> Estimate:
    """Share of correct items that come in clusters: stderr as `clustered_mean`, interval as `proportion` with fewer items.

    Wilson's formula is given n_eff = p(1-p) / stderr^2, at most n, and the t quantile with G - 1 degrees for the normal one
    (Dean and Pagano 2015). All right or all wrong shows nothing about dependence: n_eff is then n."""
    vector = _credits(correct)
    return _proportion(vector, _codes(clusters, vector.size), level)


def ratio_of_sums(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    clusters: Iterable[Hashable] | None = None,
    scale: float = 1.0,
    level: float = 0.95,
) -> Estimate:
    """scale * sum(numerators) / sum(denominators), one pair a document, n = documents; e.g. nats over bytes.

    Delta method: residual e_i = numerator_i - r * denominator_i, var = n/(n-1) * sum e_i^2 / sum(denominators)^2, Student t
    with n - 1 degrees; residuals are first summed within clusters where given. Denominators are not negative, their sum not 0."""
    above, below = _vector("numerators", numerators), _vector("denominators", denominators)
    if above.size != below.size:
        raise ValueError(f"a ratio of sums pairs each numerator with a denominator, got {above.size} and {below.size}")
    total = float(below.sum())
    if below.min() < 0 or total <= 0:
        raise ValueError(
            f"denominators are sizes: none negative, some positive; got minimum {below.min()}, sum {total}"
        )
    ratio = float(above.sum()) / total
    codes = None if clusters is None else _codes(clusters, above.size)
    stderr, groups = _spread((above - ratio * below) * scale, total, codes)
    return _student(ratio * scale, above.size, stderr, groups, level, "ratio of sums, delta method", codes)


def exp_mean(values: ArrayLike, *, clusters: Iterable[Hashable] | None = None, level: float = 0.95) -> Estimate:
    """exp(mean of the values): perplexity from negative log-likelihoods in nats. See `exponential`."""
    return exponential(mean(values, level=level) if clusters is None else clustered_mean(values, clusters, level=level))


def exponential(log: Estimate) -> Estimate:
    """The estimate of exp(x) from one of x: stderr = exp(x) * stderr (delta method), interval = exp of both ends.

    Raises ValueError when exp(x) exceeds what a float holds (x > 709); an upper end beyond it becomes the largest float."""
    if log.value > _LARGEST_LOG:
        raise ValueError(
            f"exp({log.value:.6g}) is not a float; report the logarithm (nats or bits) instead of the perplexity"
        )
    value = math.exp(log.value)
    if log.stderr is None or log.ci is None:
        return Estimate(value, log.n, None, None, log.level, log.method)
    low, high = (math.exp(min(end, _LARGEST_LOG)) for end in log.ci)
    stderr = math.exp(min(log.value + math.log(log.stderr), _LARGEST_LOG)) if log.stderr > 0 else 0.0
    return Estimate(value, log.n, stderr, (low, high), log.level, f"exp of {log.method}")


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, clusters: Iterable[Hashable] | None = None, level: float = 0.95
) -> Estimate:
    """Mean of first_i - second_i over the same items in the same order; n = pairs. What both find hard cancels out."""
    one, two = _vector("first", first), _vector("second", second)
    if one.size != two.size:
        raise ValueError(f"a paired difference needs the same items on both sides, got {one.size} and {two.size}")
    return _mean("paired difference", one - two, None if clusters is None else _codes(clusters, one.size), level)


def difference(first: ArrayLike, second: ArrayLike, *, level: float = 0.95) -> Estimate:
    """mean(first) - mean(second) of unrelated items: Welch's interval; n = items on both sides.

    stderr^2 = s1^2/n1 + s2^2/n2, degrees of freedom by Welch and Satterthwaite. A side of one item gives no stderr."""
    one, two = _vector("first", first), _vector("second", second)
    value, n = float(one.mean() - two.mean()), one.size + two.size
    if min(one.size, two.size) < 2:
        return Estimate(value, n, None, None, level, "Welch t")
    parts = [float(side.var(ddof=1)) / side.size for side in (one, two)]
    stderr = math.sqrt(sum(parts))
    squares = sum(part**2 / (side.size - 1) for part, side in zip(parts, (one, two), strict=True))
    degrees = sum(parts) ** 2 / squares if squares > 0 else n - 2
    return _interval(value, n, stderr, _t(degrees, level), level, "Welch t")


def bootstrap(
    values: ArrayLike,
    statistic: Callable[..., Any],
    rng: np.random.Generator,
    draws: int = 2_000,
    *,
    level: float = 0.95,
) -> Estimate:
    """Percentile bootstrap of any statistic of items; for what has no closed form (a median, a trimmed mean).

    values: [n] or [n, ...], resampled along the first axis, so that columns of one item stay together.
    statistic: called as `statistic(samples, axis=1)` on [draws, n, ...], returns [draws]; `numpy.median` is one.
    stderr is the standard deviation over the draws. A skewed statistic can lie outside its own percentile interval."""
    array = np.asarray(values, dtype=np.float64)
    _refuse_bad("values", array)
    _check_level(level)
    if draws < 2:
        raise ValueError(f"a bootstrap needs at least 2 draws, got {draws}; 2000 is usual for an interval")
    n = len(array)
    whole = np.asarray(statistic(array[np.newaxis], axis=1))
    if whole.shape != (1,):
        raise ValueError(
            f"the statistic returns one number a draw, here 1; got shape {whole.shape}; does it use axis=1?"
        )
    value = float(whole[0])
    if n == 1:
        return Estimate(value, n, None, None, level, "bootstrap")
    at_once = max(1, _DRAWN_AT_ONCE // array.size)
    sizes = [min(at_once, draws - start) for start in range(0, draws, at_once)]
    drawn = np.concatenate([np.asarray(statistic(array[rng.integers(0, n, (size, n))], axis=1)) for size in sizes])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, n, float(drawn.std(ddof=1)), (float(low), float(high)), level, f"bootstrap, {draws} draws")


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval for a share of n; `quantile` is z (1.96 for 95 %), or t where n is an effective number."""
    square = quantile**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = quantile * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def _vector(name: str, values: ArrayLike) -> Vector:
    """The values as float64 [n], refused when empty, not one-dimensional or not finite."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} is one number an item, a vector; got shape {vector.shape}")
    _refuse_bad(name, vector)
    return vector


def _refuse_bad(name: str, array: NDArray[np.float64]) -> None:
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} is empty (shape {array.shape}): nothing was measured, so there is no estimate")
    wrong = ~np.isfinite(array)
    if wrong.any():
        first = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"{name} holds {int(wrong.sum())} of {array.size} values that are not finite, first {array[tuple(first)]} at "
            f"index {first[0] if len(first) == 1 else first}; find the item that made it, do not drop it"
        )


def _credits(correct: ArrayLike) -> Vector:
    vector = _vector("correct", correct)
    outside = (vector < 0) | (vector > 1)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(f"a credit lies in [0, 1], got {vector[first]} at index {first}; use `mean` for other values")
    return vector


def _codes(clusters: Iterable[Hashable], n: int) -> NDArray[np.intp]:
    """Cluster labels of any kind as 0 .. G-1, in order of appearance."""
    number: dict[Hashable, int] = {}
    codes = np.asarray([number.setdefault(label, len(number)) for label in clusters], dtype=np.intp)
    if codes.size != n:
        raise ValueError(f"one cluster label an item is needed, got {codes.size} labels for {n} items")
    return codes


def _spread(residuals: Vector, total: float, codes: NDArray[np.intp] | None) -> tuple[float | None, int]:
    """(standard error, groups) of a sum of residuals (which add up to 0) divided by `total`."""
    sums = residuals if codes is None else np.bincount(codes, weights=residuals)
    groups = sums.size
    if groups < 2:
        return None, groups
    # hypot-like scaling: squares of tiny or huge residuals must neither vanish nor overflow
    largest = float(np.abs(sums).max())
    if largest == 0:
        return 0.0, groups
    return largest * math.sqrt(groups / (groups - 1) * float(np.square(sums / largest).sum())) / total, groups


def _mean(what: str, vector: Vector, codes: NDArray[np.intp] | None, level: float) -> Estimate:
    value = float(vector.mean())
    stderr, groups = _spread(vector - value, float(vector.size), codes)
    return _student(value, vector.size, stderr, groups, level, what, codes)


def _proportion(vector: Vector, codes: NDArray[np.intp] | None, level: float) -> Estimate:
    n, share = vector.size, float(vector.mean())
    stderr, groups = _spread(vector - share, float(n), codes)
    method = "Wilson" if codes is None else f"Wilson at the effective number of items, {groups} clusters"
    if stderr is None:
        return Estimate(share, n, None, None, level, method)
    variance = share * (1 - share)
    shrinks = codes is not None and stderr > 0 and variance > 0
    effective = min(math.sqrt(n), math.sqrt(variance) / stderr) ** 2 if shrinks else n
    quantile = _t(groups - 1, level) if codes is not None else _z(level)
    return Estimate(share, n, stderr, wilson(share, effective, quantile), level, method)


def _student(
    value: float, n: int, stderr: float | None, groups: int, level: float, what: str, codes: NDArray[np.intp] | None
) -> Estimate:
    method = f"{what}, Student t" + ("" if codes is None else f", {groups} clusters")
    if stderr is None:
        return Estimate(value, n, None, None, level, method)
    return _interval(value, n, stderr, _t(groups - 1, level), level, method)


def _interval(value: float, n: int, stderr: float, quantile: float, level: float, method: str) -> Estimate:
    return Estimate(value, n, stderr, (value - quantile * stderr, value + quantile * stderr), level, method)


def _z(level: float) -> float:
    _check_level(level)
    return float(ndtri((1 + level) / 2))


def _t(degrees: float, level: float) -> float:
    _check_level(level)
    return float(stdtrit(degrees, (1 + level) / 2))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}; 95 % is 0.95")
