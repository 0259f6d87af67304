"""Routing versus residual: does the margin follow where a layer reads, or what the stream carries past it?

Two arms at each layer, both at the last token of each prompt:
  routing   a step added to the layer's read logits in every head (`forcing="own"`), or to one forced, head-averaged distribution
            (`forcing="head_mean"`); everything after it is free to follow
  residual  a step added to the block's output, while routing is frozen downstream: this layer and all later ones read with the weights
            of the undisturbed run, so that the step cannot act through routing. The same steps are run free as well
What makes the arms comparable:
  direction   within the first principal axes of the late window, along the mean gradient of the margin over the *other* prompts about
              the target (leave one out), so that no prompt is judged along a direction that it chose
  size        steps are a few per cent of the norm of what is moved; slopes are told in a unit that means the same in both arms (`match`,
              see `matching`)
  start       changes are measured from the arm's own run without a step: forcing changes the margin before any step
Slopes are per prompt: least squares through the origin over the first three sizes, in logits a unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from trialplate.metrics.routing import slope_through_origin
from trialplate.routing.arms import Arm, Forcing, Freezing, residual_arm, routing_arm
from trialplate.routing.directions import Margin, axis_gradients, others_direction
from trialplate.routing.errors import ProbeError
from trialplate.routing.late_window import WINDOW
from trialplate.routing.layer_statistics import chosen_layers
from trialplate.routing.margin import TokenIds, margin_of
from trialplate.routing.matching import Match, divergence, unit_lengths
from trialplate.routing.undisturbed import Undisturbed, observe

SIZES = (0.0, 0.01, 0.02, 0.04, 0.08)
FITTED = 3


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """How the arms are run; every choice is recorded with the result."""

    frozen: Freezing = "downstream"
    match: Match = "relative_norm"
    forcing: Forcing = "own"
    sizes: tuple[float, ...] = SIZES
    n_axes: int = 3
    window: int = WINDOW

    def __post_init__(self) -> None:
        for name, allowed in (("frozen", Freezing), ("match", Match), ("forcing", Forcing)):
            if getattr(self, name) not in get_args(allowed):
                raise ProbeError(f"{name}: wanted one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        if len(self.sizes) < FITTED or self.sizes[0] != 0 or sorted(set(self.sizes)) != list(self.sizes):
            raise ProbeError(f"sizes: wanted at least {FITTED} rising numbers from 0, got {self.sizes}")


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm at one layer. `margins` and `kl` are [size, prompt]; kl in nats from the arm's own start.

    evr       explained variance ratios of the arm's axes
    gradient  [axis] mean over target prompts, in logits a coordinate
    norm      [prompt] norm of what is moved: a size s is a step of s * norm
    units     [prompt] lengths of the units that slopes can be told in; output_kl is absent where no next token notices the steps
    relative  [prompt] slopes in logits per relative norm"""

    evr: list[float]
    gradient: list[float]
    norm: Float[Tensor, " prompt"]
    units: dict[Match, Float[Tensor, " prompt"]]
    margins: Float[Tensor, "size prompt"]
    kl: Float[Tensor, "size prompt"]
    relative: Float[Tensor, " prompt"]

    def slopes(self, match: Match) -> Float[Tensor, " prompt"]:
        """Slopes in logits a unit of `match`. Raises ProbeError for output_kl where it has no meaning."""
        if match not in self.units:
            raise ProbeError(
                "some step shifts no next token at all, so steps cannot be matched by output_kl; match by relative_norm or late_window_sd"
            )
        return self.relative * (self.units[match].double() / self.norm.double())


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """`residual` under the freezing that was asked for, `residual_free` the same steps with nothing frozen."""

    layer: int
    routing: ArmResult
    residual: ArmResult
    residual_free: ArmResult


@dataclass(frozen=True, slots=True)
class RoutingVersusResidual:
    """`base` [prompt] are the undisturbed margins; `is_control` [prompt] marks prompts that chose no direction and enter no mean."""

    settings: ComparisonSettings
    base: Float[Tensor, " prompt"]
    is_control: Bool[Tensor, " prompt"]
    layers: list[LayerComparison]


def routing_versus_residual(
    model: ASMLanguageModel,
    ids: Int[Tensor, "prompt seq"],
    mask: Bool[Tensor, "prompt seq"] | None,
    target_id: TokenIds,
    rival_id: TokenIds,
    *,
    is_control: Bool[Tensor, " prompt"] | None = None,
    layers: list[int] | None = None,
    frozen: Freezing = "downstream",
    match: Match = "relative_norm",
    forcing: Forcing = "own",
    sizes: tuple[float, ...] = SIZES,
    n_axes: int = 3,
    window: int = WINDOW,
) -> RoutingVersusResidual:
    """Run both arms at the given layers (all by default). Deterministic; about 30 runs of the last tokens a layer, in a few batches.

    Raises ProbeError for settings that mean nothing, fewer than two target prompts, prompts of one token, and steps whose size cannot
    be matched; see also `observe`."""
    settings = ComparisonSettings(frozen, match, forcing, tuple(sizes), n_axes, window)
    return compare(
        model, observe(model, ids, mask), target_id, rival_id, settings, is_control=is_control, layers=layers
    )


def compare(
    model: ASMLanguageModel,
    seen: Undisturbed,
    target_id: TokenIds,
    rival_id: TokenIds,
    settings: ComparisonSettings,
    *,
    is_control: Bool[Tensor, " prompt"] | None = None,
    layers: list[int] | None = None,
) -> RoutingVersusResidual:
    """`routing_versus_residual` on prompts that were observed already."""
    control = _controls(is_control, seen)
    base = seen.margins(target_id, rival_id)
    compared = [
        _compare(model, seen, layer, target_id, rival_id, ~control, settings) for layer in chosen_layers(seen, layers)
    ]
    return RoutingVersusResidual(settings, base.cpu(), control.cpu(), compared)


def _controls(is_control: Tensor | None, seen: Undisturbed) -> Tensor:
    if is_control is None:
        is_control = torch.zeros(seen.n_prompts, dtype=torch.bool)
    if is_control.shape != (seen.n_prompts,):
        raise ProbeError(
            f"is_control has one entry for each of {seen.n_prompts} prompts, got shape {tuple(is_control.shape)}"
        )
    if int((~is_control).sum()) < 2:
        raise ProbeError(
            f"{int((~is_control).sum())} prompts about the target: each is moved along the gradient of the others, so at least 2 are wanted"
        )
    return is_control.to(seen.mask.device)


def _compare(
    model: ASMLanguageModel,
    seen: Undisturbed,
    layer: int,
    target_id: TokenIds,
    rival_id: TokenIds,
    counted: Tensor,
    settings: ComparisonSettings,
) -> LayerComparison:
    def margin(logits: Tensor) -> Tensor:
        return margin_of(logits, target_id, rival_id)

    routing = routing_arm(model, seen, layer, settings.forcing, settings.n_axes, settings.window)
    free = residual_arm(model, seen, layer, "none", settings.n_axes, settings.window)
    held = residual_arm(model, seen, layer, settings.frozen, settings.n_axes, settings.window)
    along_routing = _direction(routing, margin, counted)
    along_residual = _direction(free, margin, counted)  # what moves the margin most when nothing is frozen
    moved_routing = _follow(routing, along_routing, margin, settings)
    moved_free = _follow(free, along_residual, margin, settings)
    moved_held = _follow(held, along_residual, margin, settings, moved_free.kl)
    return LayerComparison(layer, moved_routing, moved_held, moved_free)


@dataclass(frozen=True, slots=True)
class _Direction:
    """`each` [prompt, axis]: unit vectors."""

    gradient: list[float]
    each: Tensor


def _direction(arm: Arm, margin: Margin, counted: Tensor) -> _Direction:
    gradients = axis_gradients(arm, margin)
    return _Direction(gradients[counted].mean(0).tolist(), others_direction(gradients, counted))


def _follow(
    arm: Arm, along: _Direction, margin: Margin, settings: ComparisonSettings, kl_of_unit: Tensor | None = None
) -> ArmResult:
    """Steps of every size along each prompt's direction. The unit of output_kl is that of the arm itself, or of a given divergence:
    frozen steps are told in the unit of the free ones, so that the two can be compared."""
    norm = arm.origin.norm(dim=1)
    sizes = norm.new_tensor(settings.sizes)
    steps = (along.each @ arm.axes.directions.T) * norm.unsqueeze(1)
    logits = arm.run(sizes[:, None, None] * steps)
    margins, kl = margin(logits), divergence(logits)
    spread = (along.each * arm.axes.spread).norm(dim=1)
    shifted = (kl if kl_of_unit is None else kl_of_unit.to(kl))[-1]
    units = unit_lengths(norm, spread, settings.sizes[-1], shifted)
    relative = slope_through_origin(sizes[:FITTED], (margins - margins[0])[:FITTED])
    on_cpu = {match: length.cpu() for match, length in units.items()}
    return ArmResult(arm.axes.ratios, along.gradient, norm.cpu(), on_cpu, margins.cpu(), kl.cpu(), relative)
