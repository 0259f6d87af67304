"""The late window: the last few valid tokens of each prompt, where routing has settled; and the principal axes of what happens there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trialplate.metrics.routing import explained_variance_ratios
from trialplate.routing.errors import ProbeError
from trialplate.routing.precision import at_least_float32

WINDOW = 5


@dataclass(frozen=True, slots=True)
class PrincipalAxes:
    """`directions` [dim, axis] of unit length, `ratios` of explained variance, `spread` [axis]: standard deviation of the points along each."""

    mean: Float[Tensor, " dim"]
    directions: Float[Tensor, "dim axis"]
    ratios: list[float]
    spread: Float[Tensor, " axis"]

    def coordinates(self, points: Float[Tensor, "*point dim"]) -> Float[Tensor, "*point axis"]:
        """Points in the axes, from the mean."""
        return (points.to(self.mean) - self.mean) @ self.directions

    def decode(self, coordinates: Float[Tensor, "*point axis"]) -> Float[Tensor, "*point dim"]:
        """The points of coordinates."""
        return self.mean + coordinates @ self.directions.T


def late_window(
    mask: Bool[Tensor, "batch seq"], length: int = WINDOW, *, with_first: bool = False
) -> Bool[Tensor, "batch seq"]:
    """The last `length` valid columns of each prompt; column 0 only with `with_first` (its slots hold one token, so it reads the same
    whatever it reads). Raises ProbeError where a prompt has nothing left."""
    if length < 1:
        raise ProbeError(f"a late window of {length} tokens holds nothing; wanted at least 1")
    column = torch.arange(mask.shape[1], device=mask.device)
    chosen = mask & (column >= mask.sum(1, keepdim=True) - length)
    if not with_first:
        chosen = chosen & (column > 0)
    if not bool(chosen.any(1).all()):
        row = int((~chosen.any(1)).nonzero()[0])
        raise ProbeError(
            f"prompt {row} has no token in the late window without its first one; wanted prompts of at least 2 tokens"
        )
    return chosen


def window_means(
    values: Float[Tensor, "batch seq dim"], window: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch dim"]:
    """Mean over each prompt's window."""
    weight = window.to(values).unsqueeze(-1)
    return (values * weight).sum(1) / weight.sum(1)


def principal_axes(points: Float[Tensor, "point dim"], n: int, what: str) -> PrincipalAxes:
    """The first n principal axes of points, by singular values of the centred points. Their signs are arbitrary.

    `what` names the points in errors. Raises ProbeError for fewer points or dimensions than axes want, and if all points are equal."""
    if min(points.shape[0] - 1, points.shape[1]) < n:
        raise ProbeError(
            f"{what}: {points.shape[0]} points in {points.shape[1]} dimensions have no {n} principal axes; use more prompts or fewer axes"
        )
    points = at_least_float32(points)  # no SVD in half precision
    mean = points.mean(0)
    if not bool(points.isfinite().all()) or bool((points == points[0]).all()):
        state = "equal" if bool(points.isfinite().all()) else "not all finite"
        raise ProbeError(
            f"{what}: the {points.shape[0]} points are {state}, so they have no axes; leave the layer out if it is dead"
        )
    _, values, transposed = torch.linalg.svd(points - mean, full_matrices=False)
    spread = values[:n] / max(points.shape[0] - 1, 1) ** 0.5
    return PrincipalAxes(mean, transposed[:n].T, explained_variance_ratios(points, n), spread)
