"""How an error falls with size: log y = a + b log x by least squares, with seeds as the observations. Symbols: x_1 .. x_p sizes, y_s(x) of seed s.

Every seed has a line of its own through all sizes; slopes of different seeds are independent, so their mean has a Student t interval. Where all
seeds have the same sizes, which is required, the mean of their slopes is the slope of all points together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import mean
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.seeds import check_seeds


@dataclass(frozen=True)
class PowerLaw:
    """y = e^intercept x^slope.

    slope, intercept  means over seeds with Student t intervals; a slope of -0.1 says that ten times as much x makes y 10^-0.1 = 0.79 times what it was
    bend              what a quadratic term in log x would be, over seeds; None for two sizes, which lie on a line always. An interval without 0
                      says that this is no power law over these sizes
    sizes             the x that were used"""

    slope: Estimate
    intercept: Estimate
    bend: Estimate | None
    sizes: tuple[float, ...]


def power_law(values: Mapping[int, Mapping[float, float]]) -> PowerLaw:
    """Fit {seed: {x: y}}. StudyError for fewer than 3 seeds or 2 sizes, seeds of different sizes, and for x or y that are not positive."""
    seeds = check_seeds(sorted(values))
    sizes = sorted(values[seeds[0]])
    for seed in seeds:
        if sorted(values[seed]) != sizes:
            raise StudyError(
                f"seed {seed} was measured at {sorted(values[seed])}, seed {seeds[0]} at {sizes}: a slope over other sizes is another slope"
            )
    if len(sizes) < 2:
        raise StudyError(f"a slope wants at least 2 sizes, got {len(sizes)}; extend the grid")
    table = np.array([[values[seed][size] for size in sizes] for seed in seeds], dtype=np.float64)  # [seed, size]
    if not (min(sizes) > 0 and np.isfinite(table).all() and (table > 0).all()):
        raise StudyError(
            f"logarithms want positive finite numbers, got sizes from {min(sizes)} and values from {table.min()}; an error of 0 or below has none"
        )
    x, y = np.log(np.array(sizes)), np.log(table)
    centred = x - x.mean()
    slopes = y @ centred / (centred @ centred)
    intercepts = y.mean(1) - slopes * x.mean()
    bend = mean(np.polynomial.polynomial.polyfit(centred, y.T, 2)[2]) if len(sizes) > 2 else None
    return PowerLaw(mean(slopes), mean(intercepts), bend, tuple(sizes))
