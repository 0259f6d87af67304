"""Stability over seeds: whether coders that never saw each other found the same directions, above chance, with seeds as the observations.

Symbols: n coders that differ by seed; U = mean similarity over their pairs; s0 = chance level; adjusted = (U - s0) / (1 - s0).

What it must mean: coders that were pulled towards a common reference resemble each other because they resemble it. Such coders are one family,
and only pairs across families count. A bit-equal decoder under two names is one coder counted twice, and refused. Latents that never fire keep what
they were initialised with, so the form that is read is of the alive ones; the one weighted by activation mass says whether what matters is stable.

A gain can be significant and mean nothing (0.3000 against 0.2988 with p < 0.01): ask for a minimum of the adjusted gain, not for a p value."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.cosines import Rows
from trialplate.metrics.decoder_similarity import Statistic
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.seed_resampling import (
    Interval,
    PermutationTest,
    check_seeds,
    pair_mean,
    permutation_test,
    seed_estimate,
    seed_values,
)
from trialplate.metrics.seed_tables import CoderSet

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """Similarity over seeds beside what chance shows.

    raw        U, mean similarity of pairs; interval over seeds
    chance     s0, of random directions of the same shapes
    adjusted   (U - s0) / (1 - s0): 0 at chance, 1 where all seeds agree; comparable across shapes, as U is not
    pairs      [n (n - 1) / 2] similarities of pairs (0, 1), (0, 2) ... of seeds (of families, where given)
    table      [n, n] the same, symmetric, 1 on the diagonal
    n_seeds    n
    untrained  U of coders that were initialised and not trained; None where none were given
    above_untrained   (U - U_untrained) / (1 - U_untrained); None likewise"""

    raw: Estimate
    chance: Estimate
    adjusted: Estimate
    pairs: Matrix
    table: Matrix
    n_seeds: int
    untrained: Estimate | None = None
    above_untrained: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """What one arm has over another.

    raw           U_a - U_b; of arms of different shapes it is partly a difference of chance levels
    adjusted      difference of the adjusted scores: the size of the effect, and what a gate asks a minimum of
    effect_size   Cohen's d over seeds, raw / sqrt((s_a^2 + s_b^2) / 2) with the seeds' pseudo-values; None where neither arm has any spread.
                  Coders at chance hardly vary, so d may be large where the gain is nothing"""

    raw: Estimate
    adjusted: Estimate
    effect_size: float | None


def stability(
    decoders: Sequence[Rows],
    *,
    statistic: str | Statistic = "matched_cosine",
    absolute: bool = False,
    alive: Sequence[ArrayLike] | None = None,
    weights: Sequence[ArrayLike] | None = None,
    families: Sequence[Hashable] | None = None,
    untrained: Sequence[Rows] | None = None,
    chance: Estimate | None = None,
    rng: np.random.Generator,
    draws: int = 10,
    interval: Interval = "jackknife",
    n_boot: int = 2_000,
    level: float = 0.95,
) -> Stability:
    """Similarity of all pairs of at least 3 coders [m, d] that differ by seed, its chance level, and the score above chance.

    statistic  a name of `decoder_similarity.STATISTICS`, or a function of two dictionaries; `absolute` is for names
    alive      [m] bool a coder: latents that fire. The others are left out, and chance is that of the sizes that are left
    weights    [m] a coder, e.g. activation mass: matched and mean-max cosines are then weighted means
    families   one label a coder: coders that share a reference, or an initialisation, share it. The families are then the seeds
    untrained  decoders after initialisation, a second null beside random directions; at least 3 of the same shape, all of their latents
    chance     the chance level where it is known (as of `chance_level` for the same d and m); otherwise drawn, at least `draws` pairs

    ValueError for fewer than 3 seeds or families, unequal shapes (nothing is transposed), a decoder twice, or a coder without alive latents."""
    coders = CoderSet.of(decoders, alive, weights)
    check_seeds((len(decoders) if families is None else len(set(families)),))
    by_chance = coders.chance(statistic, rng, absolute=absolute, draws=draws) if chance is None else chance
    table = coders.table(statistic, absolute=absolute, families=families)
    null = None
    if untrained is not None:
        if tuple(untrained[0].shape) != tuple(decoders[0].shape):
            raise ValueError(
                f"untrained coders are what these were before training, of one shape; got {list(untrained[0].shape)} and {list(decoders[0].shape)}"
            )
        null = CoderSet.of(untrained).table(statistic, absolute=absolute)
    return stability_of(table, by_chance, rng=rng, untrained=null, interval=interval, n_boot=n_boot, level=level)


def stability_of(
    table: ArrayLike,
    chance: Estimate,
    *,
    rng: np.random.Generator,
    untrained: ArrayLike | None = None,
    interval: Interval = "jackknife",
    n_boot: int = 2_000,
    level: float = 0.95,
) -> Stability:
    """`stability` of any similarity of pairs: table [n, n] symmetric, untrained [u, u] the same of untrained coders, `chance` its value by chance.

    For what is no function of two decoders alone: a shared fraction, a correlation of functions."""
    s = _checked(table)
    estimate = partial(seed_estimate, rng=rng, interval=interval, n_boot=n_boot, level=level)
    raw = estimate(partial(pair_mean, s), (len(s),))
    adjusted = estimate(lambda c: _above(pair_mean(s, c), chance.value), (len(s),), noise=_noise(raw.value, chance))
    first = above = None
    if untrained is not None:
        null = _checked(untrained)
        first = estimate(partial(pair_mean, null), (len(null),))
        above = estimate(lambda c, c0: _above(pair_mean(s, c), pair_mean(null, c0)), (len(s), len(null)))
    pairs = s[np.triu_indices(len(s), 1)]
    return Stability(raw, chance, adjusted, pairs, s, len(s), first, above)


def compare(
    a: Stability,
    b: Stability,
    *,
    paired: bool,
    rng: np.random.Generator,
    interval: Interval = "jackknife",
    n_boot: int = 2_000,
    level: float = 0.95,
) -> Gain:
    """How much more stable one arm is than another: the distribution of the difference itself, not two intervals side by side.

    paired  the i-th seed of both arms is the same one (data order, initialisation): it is then left out of both at once"""
    if paired and a.n_seeds != b.n_seeds:
        raise ValueError(f"paired arms have the same seeds in the same order, got {a.n_seeds} and {b.n_seeds}")

    def difference(of_a: ArrayLike, of_b: ArrayLike, adjust: bool) -> Matrix:
        sides = [pair_mean(arm.table, counts) for arm, counts in ((a, of_a), (b, of_b))]
        if adjust:
            sides = [_above(side, arm.chance.value) for side, arm in zip(sides, (a, b), strict=True)]
        return sides[0] - sides[1]

    def estimate(adjust: bool, noise: tuple[float, float]) -> Estimate:
        of_arms = partial(difference, adjust=adjust)
        statistic, sizes = (lambda c: of_arms(c, c), (a.n_seeds,)) if paired else (of_arms, (a.n_seeds, b.n_seeds))
        return seed_estimate(statistic, sizes, rng, interval=interval, n_boot=n_boot, noise=noise, level=level)

    noises = [_noise(arm.raw.value, arm.chance) for arm in (a, b)]
    noise = (math.hypot(*(size for size, _ in noises)), min(degrees for _, degrees in noises))
    return Gain(estimate(False, (0.0, math.inf)), estimate(True, noise), _cohens_d(a.table, b.table))


def stability_gain(
    decoders_a: Sequence[Rows],
    decoders_b: Sequence[Rows],
    *,
    paired: bool,
    rng: np.random.Generator,
    statistic: str | Statistic = "matched_cosine",
    absolute: bool = False,
    draws: int = 10,
    interval: Interval = "jackknife",
    n_boot: int = 2_000,
    level: float = 0.95,
) -> Estimate:
    """The adjusted gain of arm a over arm b, in units of the way from chance to perfect agreement. `compare` of two `stability` says more."""
    arms = [
        stability(arm, statistic=statistic, absolute=absolute, rng=rng, draws=draws, level=level)
        for arm in (decoders_a, decoders_b)
    ]
    return compare(arms[0], arms[1], paired=paired, rng=rng, interval=interval, n_boot=n_boot, level=level).adjusted


def seeds_differ(
    decoders_a: Sequence[Rows],
    decoders_b: Sequence[Rows],
    *,
    paired: bool,
    rng: np.random.Generator,
    statistic: str | Statistic = "matched_cosine",
    absolute: bool = False,
    draws: int = 10_000,
) -> PermutationTest:
    """Permutation test over seeds that arm a is more alike than arm b; see `permutation_test`. All decoders of one shape [m, d].

    3 and 3 seeds cannot show p below 1/20, paired not below 1/8."""
    coders = CoderSet.of([*decoders_a, *decoders_b])
    first = np.arange(len(coders.rows)) < len(decoders_a)
    return permutation_test(coders.table(statistic, absolute=absolute), first, rng, paired=paired, draws=draws)


def _checked(table: ArrayLike) -> Matrix:
    """A symmetric table of finite similarities, of at least 3 seeds."""
    s = np.asarray(table, dtype=np.float64)
    if (
        s.ndim != 2
        or s.shape[0] != s.shape[1]
        or not np.isfinite(s).all()
        or not np.allclose(s, s.T, rtol=0, atol=1e-9)
    ):
        raise ValueError(f"similarities of n seeds are a finite symmetric table [n, n], got shape {s.shape}")
    check_seeds((len(s),))
    return s


def _above(score: Matrix, chance: Matrix | float) -> Matrix:
    return (score - chance) / (1 - chance)


def _noise(raw: float, chance: Estimate) -> tuple[float, float]:
    """(stderr, degrees) that the drawn chance level s0 gives (U - s0) / (1 - s0): its derivative there is (U - 1) / (1 - s0)^2."""
    if not chance.value < 1 - 1e-6:
        raise ValueError(
            f"the chance level is {chance.value}: nothing can be above it; are there more dimensions than channels?"
        )
    if not chance.stderr:
        return 0.0, math.inf
    return chance.stderr * abs(1 - raw) / (1 - chance.value) ** 2, chance.n - 1


def _cohens_d(one: Matrix, two: Matrix) -> float | None:
    values = [seed_values(table) for table in (one, two)]
    spread = math.sqrt(sum(float(side.var(ddof=1)) for side in values) / 2)
    return float(values[0].mean() - values[1].mean()) / spread if spread > 0 else None
