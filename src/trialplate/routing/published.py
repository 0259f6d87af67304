"""The two published experiments on routing and residual, as they were run: kept so that old numbers can be made again, not as evidence.

What they cannot show, and what `comparison` does instead: frozen_layer freezes a layer and injects after it, where its routing is done
already; parity forces one averaged distribution on all heads, and its slope includes the jump that this makes; one unit of eps is not
the same in K routing logits as in the residual stream; and there is no control and no null.
`eps` is absolute. Axes and window leave first tokens out. Directions are estimated with central differences of 0.01."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from trialplate.metrics.routing import slope_through_origin
from trialplate.routing.disturbed import run_forced, run_injected
from trialplate.routing.late_window import WINDOW, late_window, principal_axes, window_means
from trialplate.routing.layer_statistics import chosen_layers
from trialplate.routing.margin import TokenIds, margin_of
from trialplate.routing.undisturbed import Undisturbed

EPS = (0.0, 0.01, 0.02, 0.04, 0.08)
FITTED = 3
STEP = 0.01


@dataclass(frozen=True, slots=True)
class Parity:
    """Margins [eps, prompt] of both arms. `slope_*`: least squares through the origin of (mean margin - base) over the first three eps."""

    base: Float[Tensor, " batch"]
    evr_routing: list[float]
    evr_residual: list[float]
    routing: Float[Tensor, "eps batch"]
    residual: Float[Tensor, "eps batch"]

    @property
    def slope_routing(self) -> float:
        """As published: the jump of forcing is part of it."""
        return _slope(self.routing.mean(1) - self.base.mean())

    @property
    def slope_routing_from_forced(self) -> float:
        """The same curve measured from its own start, the forced routing without a step."""
        return _slope(self.routing.mean(1) - self.routing[0].mean())

    @property
    def slope_residual(self) -> float:
        """As published."""
        return _slope(self.residual.mean(1) - self.base.mean())

    @property
    def forced_jump(self) -> float:
        """What forcing alone does to the mean margin, in logits."""
        return (self.routing[0].mean() - self.base.mean()).item()


@dataclass(frozen=True, slots=True)
class Frozen:
    """Margins [eps, prompt] of the residual arm with the routing of the layer itself frozen. `slope0` is the first difference."""

    base: Float[Tensor, " batch"]
    evr: list[float]
    g_norm: float
    margins: Float[Tensor, "eps batch"]

    @property
    def slope0(self) -> float:
        """(mean margin at eps 0.01 - at 0) / 0.01."""
        mean = self.margins.mean(1)
        return ((mean[1] - mean[0]) / (EPS[1] - EPS[0])).item()


def parity(
    model: ASMLanguageModel,
    seen: Undisturbed,
    target_id: TokenIds,
    rival_id: TokenIds,
    layer: int,
    *,
    window: int = WINDOW,
) -> Parity:
    """Routing forced from the prompt's mean late-window coordinates against a residual step after the block, at one layer."""
    chosen_layers(seen, [layer])
    inside = late_window(seen.mask, window)

    def margin(logits: Tensor) -> Tensor:
        return margin_of(logits, target_id, rival_id)

    z = seen.mean_read_logits(layer)
    routing_axes = principal_axes(z[inside], 3, f"read logits of layer {layer}")
    start = routing_axes.coordinates(window_means(z, inside))

    def force(offsets: Tensor) -> Tensor:
        weights = torch.softmax(routing_axes.decode(start + offsets.unsqueeze(1)), dim=-1)
        return margin(run_forced(model, seen, [layer], weights))

    stream = seen.stream[layer + 1]
    residual_axes = principal_axes(stream[inside], 3, f"output of block {layer}")

    def inject(offsets: Tensor) -> Tensor:
        return margin(run_injected(model, seen, layer, _steps(offsets, residual_axes.directions, seen)))

    curves = [run(_along(_gradient(run, start))) for run in (force, inject)]
    return Parity(margin(seen.logits), routing_axes.ratios, residual_axes.ratios, *curves)


def frozen_layer(
    model: ASMLanguageModel,
    seen: Undisturbed,
    target_id: TokenIds,
    rival_id: TokenIds,
    layer: int,
    *,
    window: int = WINDOW,
) -> Frozen:
    """A residual step after the block while this layer, and no later one, keeps its undisturbed routing.

    The published step starts at the centroid of the window's points in their own principal axes, which is the origin."""
    chosen_layers(seen, [layer])
    inside = late_window(seen.mask, window)
    axes = principal_axes(seen.stream[layer + 1][inside], 3, f"output of block {layer}")

    def inject(offsets: Tensor) -> Tensor:
        steps = _steps(offsets, axes.directions, seen)
        return margin_of(run_injected(model, seen, layer, steps, [layer]), target_id, rival_id)

    gradient = _gradient(inject, axes.mean)
    base = margin_of(seen.logits, target_id, rival_id)
    return Frozen(base, axes.ratios, gradient.norm().item(), inject(_along(gradient)))


def _gradient(run: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Mean over prompts of the central differences of the margin along each of three axes."""
    steps = torch.eye(3, dtype=like.dtype, device=like.device) * STEP
    up, down = run(torch.cat([steps, -steps])).mean(1).chunk(2)
    return (up - down) / (2 * STEP)


def _along(gradient: Tensor) -> Tensor:
    """Offsets [eps, axis] along the gradient's direction; none where nothing changes the margin."""
    return gradient.new_tensor(EPS).unsqueeze(1) * gradient / gradient.norm().clamp_min(1e-12)


def _steps(offsets: Tensor, directions: Tensor, seen: Undisturbed) -> Tensor:
    return (offsets @ directions.T).unsqueeze(1).expand(-1, seen.n_prompts, -1)


def _slope(changes: Tensor) -> float:
    return slope_through_origin(torch.tensor(EPS[:FITTED]), changes[:FITTED].unsqueeze(1)).item()
