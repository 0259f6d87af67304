"""What similarity shows where there is none: the largest cosine of m random directions, in closed form, and scores above chance.

Symbols: d channels; m random directions; t = the cosine of a fixed direction and one that is uniform on the sphere. t^2 has the distribution
Beta(1/2, (d - 1)/2), and the cosines of one direction with m independent ones are independent. A mean over rows has the same expectation as one
row, so for Gaussian dictionaries everything here is exact, not asymptotic.

Chance is no small matter: 0.30 at d = 128 and m = 1,024, and it depends on both. A similarity of dictionaries says nothing without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import betainc, betaincinv


def cosine_cdf(t: NDArray[np.float64] | float, d: int) -> NDArray[np.float64]:
    """P(cosine <= t) of two random directions of d channels, t in [-1, 1]: (1 + sign(t) I_{t^2}(1/2, (d - 1)/2)) / 2."""
    _check(d, 1)
    signed = np.asarray(t, dtype=np.float64)
    return (1 + np.sign(signed) * betainc(0.5, (d - 1) / 2, signed**2)) / 2


def expected_max_cosine(d: int, m: int, absolute: bool = False) -> float:
    """E max_j cos(a, b_j) of a direction a and m random ones, or of the absolute values; what `mean_max_cosine` shows of unrelated decoders.

    1 - integral of F(t)^m over [-1, 1] (over [0, 1] for absolute values), F the distribution of one cosine. 0.369 and 0.393 at d = 64, m = 512.
    Absolute values of m directions behave as about 2 m signed ones. ValueError for d < 2 or m < 1."""
    _check(d, m)
    if absolute:
        area = _area(lambda t: float(betainc(0.5, (d - 1) / 2, t * t)) ** m, 0.0, _typical(d, m))
    else:
        area = _area(lambda t: float(cosine_cdf(t, d)) ** m, -1.0, _typical(d, max(1, m // 2)))
    return 1 - area


def adjusted(score: float, chance: float) -> float:
    """(s - s0) / (1 - s0): the share of the way from chance s0 to a perfect 1; 0 at chance, negative below it.

    ValueError for numbers that are not finite, a score above 1, or a chance of 1: there is then nothing above chance to reach."""
    if not (np.isfinite(score) and np.isfinite(chance)) or score > 1 or chance >= 1:
        raise ValueError(f"adjusting wants a score of at most 1 and a chance below 1, got {score} and {chance}")
    return (score - chance) / (1 - chance)


def gaussian_rows(m: int, d: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """m rows whose directions are uniform on the sphere of d channels; not normalised."""
    _check(d, m)
    return rng.standard_normal((m, d), dtype=np.float32)


def _typical(d: int, m: int) -> list[float]:
    """Where the largest of m absolute cosines lies with probability 1e-4, 1/2 and 1 - 1e-4: the integrand steps from 0 to 1 there."""
    return [float(np.sqrt(betaincinv(0.5, (d - 1) / 2, u ** (1 / m)))) for u in (1e-4, 0.5, 1 - 1e-4)]


def _area(integrand: Callable[[float], float], low: float, points: list[float]) -> float:
    return float(quad(integrand, low, 1.0, points=points, limit=200, epsabs=1e-10)[0])


def _check(d: int, m: int) -> None:
    if d < 2 or m < 1:
        raise ValueError(f"random directions want at least 2 channels and 1 direction, got d={d}, m={m}")
