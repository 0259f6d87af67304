"""Which circles of a known circuit a decoder can write. Symbols: decoder rows D [m, d]; plane P [d, 2] orthonormal, where a frequency has its circle.

Latents are not negative, so two directions reach a quarter of a circle at best. A plane is read where latents that lie in it, by a cosine of at
least `threshold` with their own projection, surround its origin: no gap between neighbours is as wide as half a turn. That takes three of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.cosines import Rows, unit_rows

THRESHOLD = 0.9


def planes_read(
    decoder: Rows, planes: Sequence[ArrayLike], threshold: float = THRESHOLD
) -> Bool[np.ndarray, " planes"]:
    """Whether each plane is read; its mean is the recall of the circuit. ValueError for no plane, one that is not orthonormal [d, 2], a zero row.

    Of random rows almost none lies in a plane: at d = 32 the chance of one row is (1 - 0.81)^15."""
    if not len(planes) or not 0 < threshold <= 1:
        raise ValueError(f"wanted planes and a cosine in (0, 1], got {len(planes)} planes and {threshold}")
    rows = unit_rows(decoder, "the decoder").double().cpu().numpy()
    return np.array([_is_read(rows, np.asarray(plane, dtype=np.float64), threshold) for plane in planes])


def widest_gap(points: ArrayLike) -> float:
    """The widest angle between neighbouring directions of points [m, 2] around the origin, in radians; a full turn for fewer than two."""
    xy = np.asarray(points, dtype=np.float64)
    if len(xy) < 2:
        return 2 * math.pi
    angle = np.sort(np.arctan2(xy[:, 1], xy[:, 0]))
    return float(np.diff(np.append(angle, angle[0] + 2 * math.pi)).max())


def _is_read(rows: NDArray[np.float64], plane: NDArray[np.float64], threshold: float) -> bool:
    if plane.shape != (rows.shape[1], 2) or np.abs(plane.T @ plane - np.eye(2)).max() > 1e-6:
        raise ValueError(f"a plane has two orthonormal columns of {rows.shape[1]} channels, got shape {plane.shape}")
    projected = rows @ plane
    within = np.linalg.norm(projected, axis=1) >= threshold
    return widest_gap(projected[within]) < math.pi
