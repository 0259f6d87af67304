"""The causal check of specialized units, its pure parts: which units to ablate, what to compare them with, and what the losses say.

A unit that fires for a task need not matter for it. Ablate the most selective units: the loss on their own task should rise more than
that on the others, and more so than for units of the same firing rates chosen at random. The ablation itself needs a model and is not here.
Symbols: d = units, m = units ablated; losses are mean nats a token."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

Labels = NDArray[np.intp]
Matrix = NDArray[np.float64]


class AgainstRandom(NamedTuple):
    """An effect beside those of n random sets.

    z: (effect - mean) / (sd sqrt(1 + 1/n)), Student t with n - 1 degrees of freedom if the effect is one more random one.
    mean, sd: of the random effects, sd on n - 1.   p: chance of a z as large or larger, one-sided."""

    z: float
    mean: float
    sd: float
    n: int
    p: float


def top_units(scores: ArrayLike, share: float = 0.01) -> Labels:
    """The units of the largest scores, largest first: `share` of all d, rounded, and at least one. Of equal scores the lower index.

    For a task the scores may be `selectivity.task_contrasts(...)[task]`. ValueError for scores that are not finite or a share outside (0, 1]."""
    values = _vector("scores", scores)
    if not 0 < share <= 1:
        raise ValueError(f"a share of the units lies in (0, 1], got {share}; 1 % is 0.01")
    return np.argsort(-values, kind="stable")[: max(1, round(share * values.size))]


def matched_sets(
    rates: ArrayLike, chosen: ArrayLike, n_sets: int, rng: np.random.Generator, *, nearest: int | None = None
) -> Labels:
    """[n_sets, m] random sets of units that fire about as often as the chosen ones, unit by unit: column j stands for chosen[j].

    rates: [d] firing rates; chosen: [m] different units. Each stand-in is drawn from the `nearest` units whose rates are closest to
    that of the unit it stands for, among those not chosen and not yet in the set (default: as many as sets, at least 10). No two sets are
    the same. Where units that fire so often are few, the closest are not close: compare rates[sets] with rates[chosen].
    Raises ValueError when fewer than m + nearest - 1 units are left to draw from, or when `nearest` cannot give different sets."""
    all_rates, units = _vector("rates", rates), np.asarray(chosen)
    if units.ndim != 1 or units.size == 0 or units.dtype.kind not in "iu" or np.unique(units).size != units.size:
        raise ValueError(f"chosen units are a vector of different indices, at least one; got {units!r}")
    if units.min() < 0 or units.max() >= all_rates.size:
        raise ValueError(f"chosen units are indices of 0 .. {all_rates.size - 1}, got {units.min()} .. {units.max()}")
    width = max(n_sets, 10) if nearest is None else nearest
    if not 1 <= n_sets <= width:
        raise ValueError(
            f"{n_sets} different sets cannot be drawn from {width} nearest units; raise nearest, or lower n_sets"
        )
    others = np.setdiff1d(np.arange(all_rates.size), units)
    if others.size < units.size + width - 1:
        raise ValueError(
            f"matching {units.size} units with the {width} nearest wants {units.size + width - 1} others, {others.size} of "
            f"{all_rates.size} are left; choose fewer units, fewer sets, or a smaller `nearest`"
        )
    sets: dict[tuple[int, ...], Labels] = {}
    while len(sets) < n_sets:
        drawn = _stand_ins(all_rates[units], all_rates[others], width, rng)
        sets.setdefault(tuple(sorted(drawn.tolist())), others[drawn])
    return np.stack(list(sets.values()))


def relative_increase(loss: ArrayLike, base: ArrayLike) -> Matrix:
    """loss / base - 1, elementwise: 0.1 is a loss that is 10 % higher than without ablation. ValueError unless base > 0 and both finite."""
    after, before = np.asarray(loss, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if after.shape != before.shape or after.size == 0:
        raise ValueError(f"one loss after and one before a task, got {after.shape} and {before.shape}")
    if not (np.isfinite(after).all() and np.isfinite(before).all() and (before > 0).all()):
        raise ValueError(f"losses are finite and those without ablation above 0, got {after} and {before}")
    return after / before - 1


def selectivity_effect(loss_own: float, loss_other: ArrayLike, base_own: float, base_other: ArrayLike) -> float:
    """Relative loss increase on the own task minus its mean over the other tasks; positive if the ablation hits its own task more.

    (loss_own / base_own - 1) - mean_j (loss_other_j / base_other_j - 1). One number or one a task for the others. ValueError as
    `relative_increase`."""
    own = relative_increase(loss_own, base_own)
    return float(own) - float(relative_increase(loss_other, base_other).mean())


def z_against(effects_random: ArrayLike, effect: float) -> AgainstRandom:
    """How far an effect stands out from those of random sets, see AgainstRandom; 20 sets are usual.

    The factor sqrt(1 + 1/n) is the uncertainty of the mean of few sets. ValueError for fewer than 2 sets, for effects that are not finite,
    and for random effects that are all equal: z is then undefined."""
    null = _vector("effects_random", effects_random)
    if null.size < 2 or not math.isfinite(effect):
        raise ValueError(f"z wants a finite effect and at least 2 random ones, got {effect} and {null.size}")
    mean, sd = float(null.mean()), float(null.std(ddof=1))
    if not sd > 0:
        raise ValueError(
            f"all {null.size} random effects are {mean}: z is undefined; do the ablations reach the model?"
        )
    z = (effect - mean) / (sd * math.sqrt(1 + 1 / null.size))
    return AgainstRandom(z, mean, sd, null.size, float(stdtr(null.size - 1, -z)))


def _stand_ins(wanted: Matrix, rates: Matrix, width: int, rng: np.random.Generator) -> Labels:
    """For each wanted rate one position in `rates`, all different, drawn from the `width` closest that are free."""
    distances = np.abs(wanted[:, None] - rates)  # [m, others]
    drawn = np.empty(wanted.size, dtype=np.intp)
    for j in rng.permutation(wanted.size):  # in any order, so that no unit always takes what is left
        drawn[j] = rng.choice(np.argpartition(distances[j], width - 1)[:width])
        distances[:, drawn[j]] = np.inf
    return drawn


def _vector(name: str, values: ArrayLike) -> Matrix:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
        raise ValueError(
            f"{name} is a vector of finite numbers, not empty; got shape {vector.shape}: {vector.ravel()[:5]}"
        )
    return vector
