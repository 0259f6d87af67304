"""What seeds say together: means over them, and comparisons of conditions that share them. Symbols: v_c[s] = the value of condition c for seed s.

Seeds are the observations: pairs of coders share seeds and are not independent, so no interval here is made of pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy.special import stdtr

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import mean, paired_difference
from trialplate.sae.errors import StudyError

MIN_SEEDS = 3
"""Fewer show no spread that an interval could be built on."""


@dataclass(frozen=True)
class Comparison:
    """Two conditions over the same seeds.

    difference  v_first - v_second, mean over seeds, interval by Student t
    p_value     two-sided paired t test;  p_holm: the same, corrected for all comparisons that were made beside it
    better      the condition that is better at the level asked for after correction, None where neither is"""

    first: str
    second: str
    difference: Estimate
    p_value: float
    p_holm: float
    better: str | None


def check_seeds(seeds: Sequence[int], what: str = "seeds") -> tuple[int, ...]:
    """The seeds, all different and at least 3; otherwise StudyError."""
    if len(set(seeds)) != len(seeds):
        raise StudyError(f"{what} {', '.join(map(str, seeds))}: a seed twice is one coder counted as two")
    if len(seeds) < MIN_SEEDS:
        raise StudyError(
            f"wanted at least {MIN_SEEDS} {what}, got {len(seeds)}: fewer show no spread; give more or measure one coder with `sae eval`"
        )
    return tuple(seeds)


def over_seeds(values: Mapping[int, float]) -> Estimate:
    """Mean over seeds with a Student t interval; n = seeds."""
    return mean([values[seed] for seed in sorted(values)])


def compare_all(
    families: Sequence[Mapping[str, Mapping[int, float]]], *, alpha: float = 0.05
) -> list[list[Comparison]]:
    """Within each family ({condition: {seed: value}}) every pair of conditions by a paired t test over their seeds; corrected by Holm (1979) for the
    number of pairs in all families together. Higher is better.

    StudyError where two conditions do not have the same seeds: a mean over other seeds would be another question."""
    pairs = [list(combinations(values, 2)) for values in families]
    differences = [[_difference(values, *pair) for pair in of] for values, of in zip(families, pairs, strict=True)]
    p_values = [paired_p_value(one) for of in differences for one in of]
    corrected = iter(zip(p_values, holm(p_values), strict=True))
    return [
        [_comparison(pair, one, *next(corrected), alpha) for pair, one in zip(of, found, strict=True)]
        for of, found in zip(pairs, differences, strict=True)
    ]


def paired_p_value(difference: Estimate) -> float:
    """Two-sided p of a mean of differences being 0: 2 T_{n-1}(-|value| / stderr). Without any spread: 1 for no difference, otherwise 0."""
    if difference.stderr is None:
        raise StudyError(f"one pair ({difference.method}) shows no spread, so nothing can be tested; give more seeds")
    if difference.stderr == 0:
        return 1.0 if difference.value == 0 else 0.0
    return float(2 * stdtr(difference.n - 1, -abs(difference.value) / difference.stderr))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979): the i-th smallest of h times h - i + 1, made monotone, at most 1; in the order given.

    StudyError for a value outside [0, 1], NaN included."""
    if wrong := [p for p in p_values if not 0 <= p <= 1]:
        raise StudyError(f"a p value lies between 0 and 1, got {wrong[0]}")
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _comparison(pair: tuple[str, str], difference: Estimate, p: float, p_holm: float, alpha: float) -> Comparison:
    better = None if p_holm > alpha else pair[0] if difference.value > 0 else pair[1]
    return Comparison(*pair, difference, p, p_holm, better)


def _difference(values: Mapping[str, Mapping[int, float]], first: str, second: str) -> Estimate:
    one, two = values[first], values[second]
    if set(one) != set(two):
        raise StudyError(
            f"{first} has the seeds {sorted(one)}, {second} has {sorted(two)}: a paired comparison needs the same ones"
        )
    check_seeds(sorted(one))
    seeds = sorted(one)
    return paired_difference([one[s] for s in seeds], [two[s] for s in seeds])
