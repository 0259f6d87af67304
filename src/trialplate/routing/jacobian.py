"""The finite-difference Jacobian of the mean margin along the principal axes of routing.

All late-window tokens of all prompts (first tokens left out) are moved together, in every head: a step of +eps and of -eps along a
unit axis of Z, added to the read logits. g = (mean margin up - mean margin down) / (2 eps)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from asa.asm_lm import ASMLanguageModel
from trialplate.routing.disturbed import run_shifted_everywhere
from trialplate.routing.late_window import WINDOW, late_window, principal_axes
from trialplate.routing.layer_statistics import chosen_layers
from trialplate.routing.margin import TokenIds, margin_of
from trialplate.routing.undisturbed import Undisturbed

FEWEST_POINTS = 32
STEP = 0.01


@dataclass(frozen=True, slots=True)
class RoutingJacobian:
    """`ok` is false, and the rest None, where the window holds fewer than 32 points. `frac` are the shares of g^2, `angle_pc12` is
    atan2(g2, g1) in radians. Signs of single g are arbitrary, as those of the axes are."""

    layer: int
    ok: bool
    n_points: int
    evr: tuple[float, ...] | None = None
    g: tuple[float, ...] | None = None
    frac: tuple[float, ...] | None = None
    angle_pc12: float | None = None


def routing_jacobian(
    model: ASMLanguageModel,
    seen: Undisturbed,
    target_id: TokenIds,
    rival_id: TokenIds,
    *,
    layers: list[int] | None = None,
    window: int = WINDOW,
    step: float = STEP,
) -> list[RoutingJacobian]:
    """One row a layer, along three axes; six runs of the prompts in one batch."""
    inside = late_window(seen.mask, window)
    return [_row(model, seen, target_id, rival_id, layer, inside, step) for layer in chosen_layers(seen, layers)]


def _row(
    model: ASMLanguageModel,
    seen: Undisturbed,
    target_id: TokenIds,
    rival_id: TokenIds,
    layer: int,
    inside: torch.Tensor,
    step: float,
) -> RoutingJacobian:
    points = seen.mean_read_logits(layer)[inside]
    if len(points) < FEWEST_POINTS:
        return RoutingJacobian(layer, False, len(points))
    axes = principal_axes(points, 3, f"read logits of layer {layer}")
    signed = torch.cat([axes.directions.T, -axes.directions.T]) * step  # [6, slot]
    shifts = signed[:, None, None, :] * inside.unsqueeze(-1)
    up, down = margin_of(run_shifted_everywhere(model, seen, layer, shifts), target_id, rival_id).mean(1).chunk(2)
    g = ((up - down) / (2 * step)).tolist()
    total = sum(x * x for x in g)
    shares = tuple(x * x / total for x in g) if total > 0 else None
    return RoutingJacobian(layer, True, len(points), tuple(axes.ratios), tuple(g), shares, math.atan2(g[1], g[0]))
