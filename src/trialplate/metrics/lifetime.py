"""Sparsity of a unit over tokens (lifetime measures), from sums that add up over a stream; kurtosis, dead and always-on units.

Symbols: h = values of one unit on n tokens; A = sum |h|; S = sum h^2; m2, m4 = sums of (h - mean)^2 and ^4; c clusters of tokens (texts or blocks
of texts), d units. Lifetime and population measures answer different questions: the entries of all tokens and units are never pooled here.

A unit that is always zero (root mean square below 1e-18) has no shape, and one that never moves (standard deviation below 1e-8) no kurtosis:
smaller numbers have no squares, or fourth powers, in float32. Its value is NaN in a `UnitMeasure`, which counts such units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.sparsity import token_gini

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

DEAD_BELOW, ALWAYS_ON_ABOVE = 1e-6, 0.99
"""Shares of tokens: a unit that fires on fewer is dead, one that fires on more is always on."""
MEANINGFUL_TOKENS = 1_000_000
_SILENT = 2.0**-120  # mean square up to which a unit counts as always zero
_STILL = 1e-16  # variance up to which it counts as never moving
_DRAWN_AT_ONCE = 2_000_000  # sums of resampled clusters held in memory: 16 MB an array


@dataclass(frozen=True, slots=True)
class UnitMeasure:
    """One value a unit, [d] float64; NaN where it is undefined for the unit, and nowhere else."""

    values: Vector

    @property
    def defined(self) -> NDArray[np.bool_]:
        """[d], true where there is a value."""
        return ~np.isnan(self.values)

    @property
    def n_undefined(self) -> int:
        """Units without a value."""
        return int(np.isnan(self.values).sum())

    def mean(self) -> float:
        """Mean over the units that have a value. Raises ValueError where none has."""
        if self.n_undefined == self.values.size:
            raise ValueError(
                f"the measure is undefined for all {self.values.size} units: none ever moved; is the site dead?"
            )
        return float(np.nanmean(self.values))


class FiringShares(NamedTuple):
    """dead_frac and always_on_frac in [0, 1] over n tokens. Not `meaningful` below a million tokens: rare units then count as dead."""

    dead_frac: float
    always_on_frac: float
    n: int
    meaningful: bool


def lifetime_treves_rolls(abs_sum: ArrayLike, square_sum: ArrayLike, n: int) -> UnitMeasure:
    """(A/n)^2 / (S/n) of every unit, in [1/n, 1]; low: few tokens carry the unit (Treves and Rolls 1991). Undefined for a unit of zeros.

    Sums of parts of a stream add up. ValueError for sums that cannot belong to n tokens (A^2 <= n S fails by more than rounding)."""
    A, S = _sums(abs_sum, square_sum, n)
    return UnitMeasure(_treves_rolls(A, S, np.float64(n)))


def lifetime_hoyer(abs_sum: ArrayLike, square_sum: ArrayLike, n: int) -> UnitMeasure:
    """(sqrt n - A/sqrt S) / (sqrt n - 1) of every unit: 0 the same size on every token, 1 one token alone (Hoyer 2004). n >= 2.

    Undefined for a unit of zeros; errors as `lifetime_treves_rolls`."""
    A, S = _sums(abs_sum, square_sum, n)
    return UnitMeasure(_hoyer(A, S, np.float64(n)))


def lifetime_gini(rows: torch.Tensor | NDArray[np.float32]) -> UnitMeasure:
    """Gini coefficient of |h| over the tokens of a sample [n, d], for every unit: 0 all alike, 1 - 1/n one token alone.

    Needs the values themselves: give a uniform sample of rows. On n tokens it is low by about gini/n. Undefined for a unit of zeros."""
    whole = torch.as_tensor(rows)
    if whole.ndim != 2:
        raise ValueError(f"rows are [n, d], a sample of tokens by units, got {list(whole.shape)}")
    return UnitMeasure(token_gini(whole.T.contiguous()).cpu().numpy().astype(np.float64))


def excess_kurtosis(m2: ArrayLike, m4: ArrayLike, n: int, *, mean: ArrayLike | None = None) -> UnitMeasure:
    """n m4 / m2^2 - 3 of every unit (the population form, no correction for n): 0 Gaussian, at least -2, large for rare strong firing.

    Undefined for a unit that never moves. Where `mean` is given, that includes a standard deviation below 1e-6 |mean|: a constant in float32
    leaves such a residue, and the kurtosis of rounding is no property of the unit."""
    second, fourth = _vector("m2", m2), _vector("m4", m4)
    centre = np.zeros_like(second) if mean is None else np.asarray(mean, dtype=np.float64)
    if not second.shape == fourth.shape == centre.shape or n < 2:
        raise ValueError(
            f"wanted m2, m4 and mean of the same units over n >= 2 tokens, got {second.shape}, {fourth.shape}, {centre.shape}, n={n}"
        )
    moves = second / n > np.maximum(_STILL, (1e-6 * centre) ** 2)
    variance = np.where(moves, second / n, np.nan)
    return UnitMeasure(np.maximum(fourth / n / variance**2 - 3, -2))


def firing_shares(fires: ArrayLike, n: int) -> FiringShares:
    """Shares of units that fire on fewer than 1e-6 (dead), and on more than 0.99 (always on), of n tokens.

    fires: tokens on which each unit fired. Always returned, with `meaningful` false below a million tokens: dead then means "not once"."""
    counts = _vector("fires", fires)
    if n < 1 or counts.max() > n:
        raise ValueError(
            f"a unit fires on at most all of n >= 1 tokens, got {counts.max():g} firings in n={n}; are they the same tokens?"
        )
    rate = counts / n
    dead, always = float((rate < DEAD_BELOW).mean()), float((rate > ALWAYS_ON_ABOVE).mean())
    return FiringShares(dead, always, n, n >= MEANINGFUL_TOKENS)


def lifetime_means(
    tokens: ArrayLike,
    abs_sums: ArrayLike,
    square_sums: ArrayLike,
    rng: np.random.Generator,
    draws: int = 1_000,
    *,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """lifetime_treves_rolls and lifetime_hoyer, each the mean over units that ever moved, with an interval over clusters; n = clusters.

    tokens [c], abs_sums [c, d], square_sums [c, d] by cluster. Clusters are drawn with replacement, both measures on the same draws; stderr is the
    standard deviation over draws, interval by Student t with c - 1 degrees around the value. Not the percentile interval: the mean over many units
    varies so little that the bias of a ratio on resampled clusters (of order 1/c, as that of the value itself) would push it off the value.
    The interval shows what other texts would change, not that bias. One cluster: no stderr. Units that never moved are counted in `method`."""
    sizes, A, S = _cluster_table(tokens, abs_sums, square_sums)
    if draws < 2:
        raise ValueError(f"a bootstrap needs at least 2 draws, got {draws}; 1000 is usual")
    c, d = A.shape
    n = int(sizes.sum())
    whole_a, whole_s = _sums(A.sum(0), S.sum(0), n)
    measures: dict[str, Callable[..., Vector]] = {"lifetime_treves_rolls": _treves_rolls, "lifetime_hoyer": _hoyer}
    values = {name: UnitMeasure(measure(whole_a, whole_s, np.float64(n))) for name, measure in measures.items()}
    silent = values["lifetime_hoyer"].n_undefined
    method = f"cluster bootstrap, {draws} draws, Student t; {silent} of {d} units never moved"
    if c == 1:
        return {name: Estimate(value.mean(), 1, None, None, level, method) for name, value in values.items()}
    drawn: dict[str, list[Vector]] = {name: [] for name in measures}
    weights = rng.multinomial(c, np.full(c, 1 / c), size=draws).astype(np.float64)  # [draw, cluster]
    for part in np.array_split(weights, math.ceil(draws * d / _DRAWN_AT_ONCE)):
        a, s, size = part @ A, part @ S, (part @ sizes)[:, np.newaxis]
        for name, measure in measures.items():
            drawn[name].append(_row_means(measure(a, s, size)))
    half = float(stdtrit(c - 1, (1 + level) / 2))
    found = {}
    for name, value in values.items():
        centre, stderr = value.mean(), float(np.concatenate(drawn[name]).std(ddof=1))
        found[name] = Estimate(centre, c, stderr, (centre - half * stderr, centre + half * stderr), level, method)
    return found


def _treves_rolls(A: Vector, S: Vector, n: Vector | np.float64) -> Vector:
    return np.minimum(np.divide(A * A, n * S, out=np.full_like(S, np.nan), where=n * _SILENT < S), 1.0)


def _hoyer(A: Vector, S: Vector, n: Vector | np.float64) -> Vector:
    root = np.sqrt(n)
    flat = np.divide(A, np.sqrt(S), out=np.full_like(S, np.nan), where=n * _SILENT < S)
    return np.clip(1 - (flat - 1) / (root - 1), 0.0, 1.0)


def _row_means(values: Matrix) -> Vector:
    """Mean of each draw over the units that moved in it."""
    defined = ~np.isnan(values)
    counts = defined.sum(1)
    if (counts == 0).any():
        raise ValueError(
            f"in {int((counts == 0).sum())} of {len(values)} draws of clusters no unit moves at all: too few clusters hold any activation for an interval"
        )
    return np.where(defined, values, 0.0).sum(1) / counts


def _sums(abs_sum: ArrayLike, square_sum: ArrayLike, n: int) -> tuple[Vector, Vector]:
    A, S = _vector("abs_sum", abs_sum), _vector("square_sum", square_sum)
    if A.shape != S.shape or n < 2:
        raise ValueError(f"wanted A and S of the same units over n >= 2 tokens, got {A.shape} and {S.shape}, n={n}")
    # sums made in float32 agree to a few digits; a wrong n or sums of other tokens do not
    wrong = (n * S * 1.001 < A * A) & (n * _SILENT < S)
    if wrong.any():
        unit = int(np.argmax(wrong))
        raise ValueError(
            f"sums of n={n} tokens obey (sum |h|)^2 <= n sum h^2; unit {unit} has {A[unit]:.6g} and {S[unit]:.6g}: were they taken over the same tokens?"
        )
    return A, S


def _cluster_table(tokens: ArrayLike, abs_sums: ArrayLike, square_sums: ArrayLike) -> tuple[Vector, Matrix, Matrix]:
    sizes = _vector("tokens", tokens)
    A, S = (np.asarray(values, dtype=np.float64) for values in (abs_sums, square_sums))
    if A.ndim != 2 or A.shape != S.shape or len(A) != len(sizes) or not A.shape[1]:
        raise ValueError(
            f"wanted tokens [c], abs_sums and square_sums [c, d], got {sizes.shape}, {A.shape} and {S.shape}"
        )
    if sizes.min() <= 0:
        raise ValueError("every cluster has tokens; leave out those that have none before asking for an interval")
    for name, table in (("abs_sums", A), ("square_sums", S)):
        _vector(name, table.reshape(-1))
    return sizes, A, S


def _vector(name: str, values: ArrayLike) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"{name} is one number a unit, a vector; got shape {vector.shape}: nothing was measured")
    if not np.isfinite(vector).all() or vector.min() < 0:
        raise ValueError(
            f"{name} is a sum or count, finite and not negative; got {vector.min()} .. {vector.max()}; look for overflow in the model"
        )
    return vector
