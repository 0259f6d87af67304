"""Selectivity of units: does the firing of a unit depend on the task at all, which units do, and how many bits it tells.

Symbols: c, d, K, f_ci, t_c, N_k, C_k, "cluster" and "relabelled" as in `firings`; r_k = firing rate of a unit in task k; r = firings by tokens
over all tasks; h_k = 1 / N_k; R = permutations.

Test of one unit: do the rates of the K tasks differ by more than clusters of one task do? W = sum_k (r_k - m)^2 / v_k / (K - 1), with m the
mean of the r_k weighted by 1 / v_k (Welch 1951). v_k is the variance of r_k: from the clusters of task k (ratio of sums, delta method),
drawn towards what the unit shows over all tasks, s^2 h_k, with the weight of `_PRIOR` clusters against the (sum f)^2 / sum f^2 clusters
that the firings of task k are worth. s^2 is never under the variance r (1 - r) of independent tokens. Without that a task in which
a rare unit is silent by chance would have no variance, and W no bound.

p: the W of all units under all relabellings are one pool, p = (1 + number in the pool >= W) / (1 + pool). A unit alone would have
no p under 1 / (1 + R), which for hundreds of units cannot survive Benjamini and Hochberg's step-up (1995); W being studentized, units can
share (Storey and Tibshirani 2003). The expected number of false findings is right over all units; p of one odd unit may be off."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, entr, stdtrit

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.firings import (
    Firings,
    Labels,
    Matrix,
    NothingToScore,
    blocks,
    check_level,
    of_permutations,
    one_hot,
    slices,
)

_PRIOR = 10.0
_GROUPS = 20  # of the jackknife


class Selectivity(NamedTuple):
    """Selectivity of the d units of a site.

    bits:        [d] mutual information of firing and task, not corrected; 0 for a unit that never or always fires.
    bits_chance: [d] its mean over the permutations.
    statistic:   [d] W of the test. p, q: [d] its p-value and the smallest false discovery rate at which the unit is found; 1 for a unit
                 that never or always fires.
    selective:   [d] q <= the rate asked for.
    mi_bits:     mean of `bits` over all units; mi_null: the same for relabelled clusters.
    frac_selective: share of the d units that are selective; frac_selective_null: the same for relabelled clusters."""

    bits: Matrix
    bits_chance: Matrix
    statistic: Matrix
    p: Matrix
    q: Matrix
    selective: NDArray[np.bool_]
    mi_bits: Estimate
    mi_null: Estimate
    frac_selective: Estimate
    frac_selective_null: Estimate


def mutual_information(fires: ArrayLike, tokens: ArrayLike, tasks: ArrayLike) -> Matrix:
    """I(fires; task) of each unit in bits, [d]: Hb(r) - sum_k (N_k / N) Hb(r_k), Hb = entropy of a coin.

    From 0 (equal rates, or never firing) to min(Hb(r), entropy of the task labels) <= 1. Plug-in: about (K-1) / (2 N ln 2) too high
    for independent tokens and more for tokens of documents, so show it beside its null. ValueError as `Firings.of`."""
    table = Firings.of(fires, tokens, tasks)
    return _bits(table.rates(), table.task_tokens)


def chi_squared_p(bits: ArrayLike, n_tokens: float, n_tasks: int) -> Matrix:
    """P-value of mutual information in bits over N independent tokens: 2 N ln 2 I is chi-squared with K - 1 degrees (Wilks 1938).

    For one token a document, or tokens drawn apart. Tokens of one document depend on each other: then these p are far too small, and
    `selectivity` is the test. Rough under about 5 expected firings a task."""
    values = np.asarray(bits, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all()) or values.size == 0:
        raise ValueError("mutual information is finite and not negative; pass what mutual_information returned")
    if n_tokens < 1 or n_tasks < 2:
        raise ValueError(f"the test wants at least 1 token and 2 tasks, got {n_tokens} and {n_tasks}")
    return np.asarray(chdtrc(n_tasks - 1, 2 * n_tokens * math.log(2) * values), dtype=np.float64)


def benjamini_hochberg(p: ArrayLike) -> Matrix:
    """q [n]: q_(i) = min over j >= i of p_(j) n / j, for p in ascending order; units with q <= a have a false discovery rate of at most a.

    For p-values that are independent or positively dependent (Benjamini and Yekutieli 2001). ValueError for p outside [0, 1]."""
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"q-values want a vector of p-values in [0, 1], got shape {values.shape}: {values.ravel()[:5]}"
        )
    order = np.argsort(values, kind="stable")
    steps = values[order] * values.size / np.arange(1, values.size + 1)
    q = np.empty_like(values)
    q[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1)
    return q


def task_contrasts(fires: ArrayLike, tokens: ArrayLike, tasks: ArrayLike) -> Matrix:
    """z [K, d]: rate of a unit in task k minus the mean of its rates in the other tasks, by the standard error of that difference.

    (r_k - mean_{j != k} r_j) / sqrt(v_k + sum_{j != k} v_j / (K-1)^2), v_k as in the test. Large: the unit prefers task k; a score to
    choose units by, since rare units that fired once, in task k, score low. 0 for a unit that never or always fires. Every task needs
    2 clusters; ValueError as `Firings.of`."""
    table = _tested(Firings.of(fires, tokens, tasks))
    z, n_others = np.empty((table.n_tasks, table.fires.shape[1])), table.n_tasks - 1
    for units in blocks(np.arange(z.shape[1])):
        sums = one_hot(table.tasks, table.n_tasks) @ _columns(table, units)
        rates, variances = _rates_and_variances(sums, table.pooled_rates()[units])
        differences = rates - (rates.sum(axis=0) - rates) / n_others
        spread = variances + (variances.sum(axis=0) - variances) / n_others**2
        z[:, units] = np.where(spread > 0, differences / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)
    return z


def selectivity(
    fires: ArrayLike,
    tokens: ArrayLike,
    tasks: ArrayLike,
    rng: np.random.Generator,
    *,
    permutations: int = 200,
    rate: float = 0.05,
    level: float = 0.95,
) -> Selectivity:
    """Which units fire by task, at a false discovery rate of `rate`, with the same test on relabelled clusters beside it.

    fires: [c, d] tokens of cluster c on which unit d fired; tokens: [c]; tasks: [c] labels 0 .. K-1, 2 clusters a task or more.
    Intervals of mi_bits and frac_selective: jackknife over 20 groups of clusters (each task dealt to all groups), Student t, cut off
    at 0 and 1; None where a task has fewer than 3 clusters. The nulls show the central `level` of the permutations. n = clusters.
    Where documents move many units together the tests err together: seldom, but then for many units; the interval of the null shows it.
    The test counts too much where a task of ten clusters or so has much longer ones than the others: deal documents to about
    as many clusters in each task.

    Raises NothingToScore (a ValueError) when every unit never or always fires, ValueError as `Firings.of`."""
    table = _tested(Firings.of(fires, tokens, tasks))
    if not 0 < rate < 1:
        raise ValueError(f"a false discovery rate lies between 0 and 1, got {rate}; 5 % is 0.05")
    check_level(level)
    n, n_units, pooled = table.tasks.size, table.fires.shape[1], table.pooled_rates()
    units = np.flatnonzero((pooled > 0) & (pooled < 1))
    if units.size == 0:
        raise NothingToScore(f"each of {n_units} units fires never or always: nothing can depend on the task")
    found, null, left = _values(table, units, table.relabelled(permutations, rng), _groups(table, rng))
    pool = np.sort(null.statistic, axis=None)
    p = _pooled_p(found.statistic, pool)
    q = benjamini_hochberg(p[0])
    share = _found(p, rate) / n_units
    left_share = _found(_pooled_p(left.statistic, pool), rate) / n_units
    null_share = _found(_pooled_p(null.statistic, pool), rate) / n_units
    return Selectivity(
        bits=_scattered(found.bits[0], units, n_units, 0.0),
        bits_chance=_scattered(null.bits.mean(axis=0), units, n_units, 0.0),
        statistic=_scattered(found.statistic[0], units, n_units, 0.0),
        p=_scattered(p[0], units, n_units, 1.0),
        q=(all_q := _scattered(q, units, n_units, 1.0)),
        selective=all_q <= rate,
        mi_bits=_jackknife(found.bits.sum() / n_units, left.bits.sum(axis=1) / n_units, n, level),
        mi_null=of_permutations(null.bits.sum(axis=1) / n_units, n, level),
        frac_selective=_jackknife(share[0], left_share, n, level),
        frac_selective_null=of_permutations(null_share, n, level),
    )


class _Values(NamedTuple):
    """Mutual information and W, each [tables, units]."""

    bits: Matrix
    statistic: Matrix


def _tested(table: Firings) -> Firings:
    if table.clusters.min() < 2:
        raise ValueError(
            f"clusters of one task show how much documents differ: every task needs 2, task {int(table.clusters.argmin())} has 1"
        )
    return table


def _values(table: Firings, units: Labels, labels: Labels, groups: Labels | None) -> tuple[_Values, _Values, _Values]:
    """Of the table as it is [1, units], of each relabelling [R, units], and of the table without each group [groups, units]."""
    by_block = [_block_values(table, some, labels, groups) for some in blocks(units)]
    found, null, left = (_Values(*map(np.hstack, zip(*parts, strict=True))) for parts in zip(*by_block, strict=True))
    return found, null, left


def _block_values(table: Firings, units: Labels, labels: Labels, groups: Labels | None) -> list[_Values]:
    n_tasks, columns = table.n_tasks, _columns(table, units)
    total = one_hot(table.tasks, n_tasks) @ columns
    null = []
    for some in slices(len(labels), n_tasks * max(columns.shape)):
        hot = one_hot(labels[some], n_tasks)
        null.append((hot.reshape(-1, hot.shape[-1]) @ columns).reshape(*hot.shape[:2], -1))
    left = np.empty((0, *total.shape))
    if groups is not None:
        hot = one_hot(groups * n_tasks + table.tasks, _GROUPS * n_tasks)
        left = total - (hot @ columns).reshape(_GROUPS, *total.shape)
    judge = partial(_judge, pooled=table.pooled_rates()[units], task_tokens=table.task_tokens)
    parts = [judge(sums) for sums in null]
    return [judge(total[None]), _Values(*map(np.vstack, zip(*parts, strict=True))), judge(left)]


def _judge(sums: Matrix, pooled: Matrix, task_tokens: Matrix) -> _Values:
    rates, variances = _rates_and_variances(sums, pooled)
    mean = (rates / variances).sum(axis=-2, keepdims=True) / (1 / variances).sum(axis=-2, keepdims=True)
    statistic = (np.square(rates - mean) / variances).sum(axis=-2) / (rates.shape[-2] - 1)
    return _Values(_bits(rates, task_tokens), statistic)


def _columns(table: Firings, units: Labels) -> Matrix:
    """[c, 3 u + 4]: what, summed over the clusters of a task, gives the rate and its variance. g = f / m_k, s = t / m_k of `relative`."""
    fires, sizes = table.relative(units)
    # the variance of g for independent tokens is r (1 - r) times t / m_k^2 = s^2 / t
    by_cluster = np.stack([sizes, sizes**2, sizes**2 / table.tokens, np.ones_like(sizes)], axis=1)
    return np.hstack([fires, fires**2, fires * sizes[:, None], by_cluster])


def _rates_and_variances(sums: Matrix, pooled: Matrix) -> tuple[Matrix, Matrix]:
    """(r_k, v_k), both [..., K, u], from the sums [..., K, 3 u + 4] of `_columns` and the rates r over all tasks [u]."""
    g, g2, gs = np.split(sums[..., :-4], 3, axis=-1)
    s, s2, s2_by_t, clusters = (sums[..., column, None] for column in (-4, -3, -2, -1))
    rates = g / s
    squares = np.maximum(g2 - 2 * rates * gs + rates**2 * s2, 0)  # sum of (g - r s)^2; rounding may leave -1e-16
    own = clusters / (clusters - 1) * squares / s**2
    h = s2_by_t / s**2
    weights = (1 / h) / (1 / h).sum(axis=-2, keepdims=True)
    weights = weights * (1 - weights)
    shared = (weights * own).sum(axis=-2, keepdims=True) / (weights * h).sum(axis=-2, keepdims=True)
    shared = np.maximum(shared, pooled * (1 - pooled))
    worth = g**2 / np.where(g2 > 0, g2, 1)
    return rates, (worth * own + _PRIOR * shared * h) / (worth + _PRIOR)


def _bits(rates: Matrix, task_tokens: Matrix) -> Matrix:
    share = (task_tokens / task_tokens.sum())[:, None]
    nats = _coin((share * rates).sum(axis=-2)) - (share * _coin(rates)).sum(axis=-2)
    return np.maximum(nats / math.log(2), 0)  # rounding leaves -1e-17 for equal rates


def _coin(p: Matrix) -> Matrix:
    p = np.clip(p, 0, 1)  # sums less a group may leave -1e-17, or 1 + 1e-16, of which there is no entropy
    return entr(p) + entr(1 - p)


def _pooled_p(statistic: Matrix, pool: Matrix) -> Matrix:
    return (1 + pool.size - np.searchsorted(pool, statistic, side="left")) / (1 + pool.size)


def _found(p: Matrix, rate: float) -> Matrix:
    """Units that Benjamini and Hochberg find in each row of p [rows, units]; without the q-values this is a sort and a comparison."""
    n = p.shape[1]
    below = np.sort(p, axis=1) <= rate * np.arange(1, n + 1) / n
    return np.where(below, np.arange(1, n + 1), 0).max(axis=1).astype(np.float64)


def _scattered(values: Matrix, units: Labels, n: int, other: float) -> Matrix:
    """The values at their units, `other` for the rest of n."""
    scattered = np.full(n, other)
    scattered[units] = values
    return scattered


def _groups(table: Firings, rng: np.random.Generator) -> Labels | None:
    """A group for each cluster, the clusters of each task spread over all groups; None where a task could lose too many."""
    if table.clusters.min() < 3:
        return None
    order = np.lexsort((rng.random(table.tasks.size), table.tasks))
    groups = np.empty(table.tasks.size, dtype=np.intp)
    groups[order] = np.arange(table.tasks.size) % _GROUPS
    return groups


def _jackknife(value: float, left: Matrix, n: int, level: float) -> Estimate:
    """The value with the spread that leaving out one group at a time shows: var = (G - 1) / G sum (left_g - mean)^2, in [0, 1]."""
    method = "jackknife over groups of clusters, Student t"
    value = float(value)
    if left.size == 0:
        return Estimate(value, n, None, None, level, method)
    stderr = math.sqrt((left.size - 1) * float(left.var()))
    half = float(stdtrit(left.size - 1, (1 + level) / 2)) * stderr
    return Estimate(value, n, stderr, (max(value - half, 0.0), min(value + half, 1.0)), level, method)
