"""The layer sweep: for each layer, how routing logits spread in the late window and whether they end where the margin is large."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.metrics.routing import attractor_sharpness, read_entropy, top1_frequency, usage_perplexity, valid_rows
from trialplate.routing.errors import ProbeError
from trialplate.routing.late_window import WINDOW, late_window, principal_axes
from trialplate.routing.undisturbed import Undisturbed


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """One row of the sweep; the names up to `attractor_sharp` are the published ones.

    evr_pc1..3       explained variance ratios of Z in the late window, first tokens included
    entropy_late     mean entropy of softmax(Z) there, nats
    margin_*         over prompts, of the final logits: the same in every layer
    attractor_sharp  correlation of closeness to the margin-weighted centroid (in 2 axes) with the margin; None where undefined
    read_entropy, top1_frequency, usage_perplexity   of the layer's own read weights, every head, all valid positions"""

    layer: int
    evr_pc1: float
    evr_pc2: float
    evr_pc3: float
    entropy_late: float
    margin_mean: float
    margin_median: float
    margin_max: float
    margin_min: float
    attractor_sharp: float | None
    read_entropy: float
    top1_frequency: float
    usage_perplexity: float


def layer_sweep(
    seen: Undisturbed,
    margins: Float[Tensor, " batch"],
    *,
    layers: list[int] | None = None,
    window: int = WINDOW,
) -> list[LayerStatistics]:
    """Statistics of the given layers (all by default) of one undisturbed pass."""
    inside = late_window(seen.mask, window, with_first=True)
    return [_statistics(seen, margins, layer, inside) for layer in chosen_layers(seen, layers)]


def chosen_layers(seen: Undisturbed, layers: list[int] | None) -> list[int]:
    """All layers for None. Raises ProbeError for one that the model does not have, or none at all."""
    chosen = list(range(seen.n_layers)) if layers is None else layers
    if not chosen or not all(0 <= layer < seen.n_layers for layer in chosen) or len(set(chosen)) < len(chosen):
        raise ProbeError(f"layers {chosen}: wanted different numbers from 0 to {seen.n_layers - 1}, the model's layers")
    return chosen


def _statistics(seen: Undisturbed, margins: Tensor, layer: int, inside: Tensor) -> LayerStatistics:
    z = seen.mean_read_logits(layer)
    axes = principal_axes(z[inside], 3, f"read logits of layer {layer}")
    ends = axes.coordinates(seen.at_last(z))[:, :2]
    rows = valid_rows(seen.read_weights[layer], seen.mask)
    first, second, third = axes.ratios
    return LayerStatistics(
        layer,
        first,
        second,
        third,
        entropy_late=read_entropy(torch.softmax(z[inside], dim=-1)),
        margin_mean=margins.mean().item(),
        margin_median=margins.median().item(),
        margin_max=margins.max().item(),
        margin_min=margins.min().item(),
        attractor_sharp=attractor_sharpness(ends, margins),
        read_entropy=read_entropy(rows),
        top1_frequency=top1_frequency(rows),
        usage_perplexity=usage_perplexity(rows),
    )
