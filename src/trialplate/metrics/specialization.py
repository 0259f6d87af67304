"""Specialization of units: how unevenly a unit fires over tasks, against what documents dealt to tasks by chance would show.

Symbols: r_ik = firing rate of unit i in task k, n_i = its firings, p_ik = r_ik / sum_k r_ik, H = entropy in nats, K = tasks;
"cluster" as in `firings`. SI_i = 1 - H(p_i) / ln K: 0 for equal rates in all tasks, 1 for firing in one task only. Rates, not counts:
a task that owns most of the tokens must not make every unit look like its own.

The entropy of few firings is too small, so a rare unit looks specialized. Three measures against it, and all are taken: Miller and
Madow's correction (1955), a smallest number of firings, and a null from permuted cluster labels, which also holds what documents
add (their tokens fire together). What counts is `si_excess`, the mean SI minus that of the null.

Not done here: whether a single unit is selective (see `selectivity`), and whether it matters (see `causal`)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.firings import (
    Firings,
    Labels,
    Matrix,
    NothingToScore,
    blocks,
    central,
    of_permutations,
    one_hot,
    slices,
)

Correction = Literal["miller-madow", "plug-in"]
MIN_FIRINGS = 50


class Specialization(NamedTuple):
    """Specialization of the units of one site.

    units:       [s] the units that are scored, ascending; the others have no SI.
    si:          [s] SI of each scored unit.
    si_chance:   [s] its mean over the permutations.
    firings:     [d] firings of every unit.
    si_mean:     mean of `si` over the scored units.
    si_null:     mean of `si_chance`; the interval holds the mean SI of that share of the permutations.
    si_excess:   si_mean - si_null: 0 for units that do not care about the task.
    si_coverage: scored units by all units, in (0, 1]."""

    units: Labels
    si: Matrix
    si_chance: Matrix
    firings: Matrix
    si_mean: Estimate
    si_null: Estimate
    si_excess: Estimate
    si_coverage: float


def specialization_index(rates: ArrayLike, firings: ArrayLike, correction: Correction = "miller-madow") -> Matrix:
    """SI [d] of units from their rates [K, d] in K tasks and their numbers of firings [d].

    "plug-in": 1 - H(p) / ln K, in [0, 1]; for a unit without preference about (K-1) / (2 n ln K) too high (K = 6: 0.166 at n = 10).
    "miller-madow": H + (m - 1) / (2n) instead of H, m = tasks in which the unit fired; exact to order 1/n for independent firings
    and tasks of equal size. At most 1, and 1 for m = 1. Values under 0 occur (not below -(K-1) / (2 n ln K)) and stay: cut off at 0,
    the mean over units without preference would be above 0 again.
    ValueError for a unit that never fired: it has no preference that could be measured."""
    table, counts = np.asarray(rates, dtype=np.float64), np.asarray(firings, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.size == 0 or counts.shape != table.shape[1:]:
        raise ValueError(
            f"the index wants rates [tasks, units] of at least 2 tasks and one number of firings a unit, "
            f"got {table.shape} and {counts.shape}"
        )
    if correction not in ("miller-madow", "plug-in"):
        raise ValueError(f"corrections are 'miller-madow' and 'plug-in', got {correction!r}")
    if not (np.isfinite(table).all() and table.min() >= 0 and np.isfinite(counts).all()):
        raise ValueError("rates and firings are finite and rates not negative; find what made the others")
    silent = (table.sum(axis=0) == 0) | (counts <= 0)
    if silent.any():
        raise ValueError(
            f"{int(silent.sum())} of {silent.size} units never fired, first unit {int(silent.argmax())}: "
            f"their index is undefined; leave them out and say how many were scored"
        )
    return _index(table, counts if correction == "miller-madow" else np.inf)


def balanced_firings(fires: ArrayLike, tokens: ArrayLike, tasks: ArrayLike) -> Matrix:
    """Firings that count for comparing K tasks, [d]: n_i * K^2 / (N sum_k 1/N_k), N_k = tokens of task k, N = sum of the N_k.

    n_i for tasks of equal size, fewer otherwise: of 100 firings that fall on tokens at random, a task that holds 0.6 % of the tokens
    sees less than one, and a rate from that says nothing. It is the number at which tasks of equal size would be as noisy."""
    return _balanced_firings(Firings.of(fires, tokens, tasks))


def specialization(
    fires: ArrayLike,
    tokens: ArrayLike,
    tasks: ArrayLike,
    rng: np.random.Generator,
    *,
    permutations: int = 200,
    draws: int = 1_000,
    min_firings: float = MIN_FIRINGS,
    level: float = 0.95,
) -> Specialization:
    """Mean specialization index of the units of a site, its null and its excess over the null.

    fires: [c, d] tokens of cluster c on which unit d fired; tokens: [c]; tasks: [c] labels 0 .. K-1.
    Scored are units with at least `min_firings` balanced firings (see there); SI with Miller and Madow's correction.
    Null: mean SI over `permutations` of the cluster labels (see `firings` for unequal lengths).
    Interval: clusters are redrawn within each task. A redrawn table holds the noise of the first drawing and its own on top, which makes
    its SI higher still; the percentiles are therefore moved by mean(SI redrawn) - SI. For units without preference the interval is
    wider than need be: to first order SI is flat there, and redrawn tables vary more than fresh ones would.
    A unit that a draw leaves silent keeps its SI in that draw. n = clusters. A task of one cluster has no spread: no interval.

    Raises NothingToScore (a ValueError) when no unit fires often enough, ValueError as `Firings.of`."""
    table = Firings.of(fires, tokens, tasks)
    if not min_firings >= 1:
        raise ValueError(f"a unit that never fired has no index: min_firings is at least 1, got {min_firings}")
    firings, balanced = table.firings(), _balanced_firings(table)
    units = np.flatnonzero(balanced >= min_firings)
    if units.size == 0:
        raise NothingToScore(
            f"none of {firings.size} units has {min_firings} balanced firings, the busiest has {balanced.max():.1f}: "
            f"specialization is undefined here; take more tokens, or tasks of more equal size"
        )
    labels, times = table.relabelled(permutations, rng), table.redrawn(draws, rng)
    si, chance = np.empty(units.size), np.empty(units.size)
    null, redrawn = np.zeros(permutations), np.zeros(draws)  # means over units, by permutation and by draw
    for rows in blocks(np.arange(units.size)):
        some = units[rows]
        si[rows] = _index(table.rates(some), firings[some])
        permuted = _permuted_index(table, some, labels)
        chance[rows] = permuted.mean(axis=0)
        null += permuted.sum(axis=1) / units.size
        redrawn += _redrawn_index(table, some, si[rows], times).sum(axis=1) / units.size
    n = table.tasks.size
    value, by_chance, spread = float(si.mean()), float(null.mean()), redrawn if table.clusters.min() > 1 else None
    return Specialization(
        units,
        si,
        chance,
        firings,
        _moved(value, n, spread, level),
        of_permutations(null, n, level),
        _moved(value - by_chance, n, spread, level),
        units.size / firings.size,
    )


def _balanced_firings(table: Firings) -> Matrix:
    sizes = table.task_tokens
    return table.firings() * (sizes.size**2 / (sizes.sum() * (1 / sizes).sum()))


def _index(rates: Matrix, firings: Matrix | float) -> Matrix:
    """SI [..., d] from rates [..., K, d]; Miller and Madow's correction at the given firings, none at infinitely many."""
    total = rates.sum(axis=-2, keepdims=True)
    shares = rates / np.where(total > 0, total, 1)
    occupied = np.count_nonzero(rates, axis=-2)
    entropy = entr(shares).sum(axis=-2) + (occupied - 1) / (2 * firings)
    return 1 - entropy / math.log(rates.shape[-2])


def _permuted_index(table: Firings, units: Labels, labels: Labels) -> Matrix:
    """SI [permutations, units] under each relabelling."""
    fires, sizes = table.relative(units)
    firings = table.fires[:, units].sum(axis=0, dtype=np.float64)
    n_tasks, n = table.n_tasks, table.tasks.size
    index = np.empty((len(labels), units.size))
    for some in slices(len(labels), n_tasks * max(n, units.size)):
        hot = one_hot(labels[some], n_tasks)
        sums = (hot.reshape(-1, n) @ fires).reshape(*hot.shape[:2], -1)  # [permutation, task, unit]
        index[some] = _index(sums / (hot @ sizes)[..., None], firings)
    return index


def _redrawn_index(table: Firings, units: Labels, si: Matrix, times: Matrix) -> Matrix:
    """SI [draws, units] of each redrawn table; a unit that a draw leaves silent keeps its `si`."""
    n_tasks, sizes = table.n_tasks, table.mean_tokens
    fires, tokens = table.relative(units)
    index = np.empty((len(times), units.size))
    for some in slices(len(times), n_tasks * max(table.tasks.size, units.size)):
        drawn = times[some]
        rates, firings = np.empty((len(drawn), n_tasks, units.size)), np.zeros((len(drawn), units.size))
        for task in range(n_tasks):
            mine = table.tasks == task
            sums = drawn[:, mine] @ fires[mine]
            rates[:, task] = sums / (drawn[:, mine] @ tokens[mine])[:, None]
            firings += sums * sizes[task]
        silent = firings == 0
        index[some] = np.where(silent, si, _index(rates, np.where(silent, 1, firings)))
    return index


def _moved(value: float, n: int, redrawn: Matrix | None, level: float) -> Estimate:
    """The value with the percentiles of the redrawn means, moved so that these have the value as their mean."""
    method = "cluster bootstrap, percentiles moved by its bias"
    if redrawn is None:
        return Estimate(value, n, None, None, level, method)
    low, high = central(redrawn - redrawn.mean(), level)
    stderr = float(redrawn.std(ddof=1))
    return Estimate(value, n, stderr, (value + low, value + high), level, f"{method}, {redrawn.size} draws")
