"""The two arms of the comparison: what is moved, along which axes, and how the model is run after a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from asa.asm_lm import ASMLanguageModel
from trialplate.routing.disturbed import run_forced, run_injected, run_shifted
from trialplate.routing.late_window import PrincipalAxes, late_window, principal_axes, window_means
from trialplate.routing.precision import at_least_float32
from trialplate.routing.undisturbed import Undisturbed

Freezing = Literal["downstream", "layer", "none"]
"""Which layers keep the routing of the undisturbed run: this and all later ones, this one alone (as published), or none."""
Forcing = Literal["own", "head_mean"]
"""What a routing step is added to: each head's own read logits, or the prompt's mean late-window logits, forced on every head."""


@dataclass(frozen=True, slots=True)
class Arm:
    """`name` says what is moved where, for errors. `origin` [prompt, dim] is what steps are added to; `run` gives the logits [n, prompt, vocab] of steps [n, prompt, dim]."""

    name: str
    axes: PrincipalAxes
    origin: Float[Tensor, "prompt dim"]
    run: Callable[[Float[Tensor, "n prompt dim"]], Float[Tensor, "n prompt vocab"]]


def routing_arm(
    model: ASMLanguageModel, seen: Undisturbed, layer: int, forcing: Forcing, n_axes: int, window: int
) -> Arm:
    """Steps in the K read logits of a layer, the same in every head. The origin is centred over slots: a common shift changes nothing."""
    name = f"read logits of layer {layer}"
    z = seen.mean_read_logits(layer)
    inside = late_window(seen.mask, window)
    axes = principal_axes(z[inside], n_axes, name)
    if forcing == "own":
        origin = seen.at_last(z)
        return Arm(name, axes, _centred(origin), lambda steps: run_shifted(model, seen, layer, steps))
    origin = axes.decode(axes.coordinates(window_means(z, inside)))
    temperature = model.layers[layer].read_temperature
    return Arm(
        name,
        axes,
        _centred(origin),
        lambda steps: run_forced(model, seen, [layer], torch.softmax((origin + steps) / temperature, dim=-1)),
    )


def residual_arm(
    model: ASMLanguageModel, seen: Undisturbed, layer: int, frozen: Freezing, n_axes: int, window: int
) -> Arm:
    """Steps in the stream that leaves a block, at the last token."""
    name = f"output of block {layer}"
    stream = at_least_float32(seen.stream[layer + 1])
    axes = principal_axes(stream[late_window(seen.mask, window)], n_axes, name)
    held = {"downstream": list(range(layer, seen.n_layers)), "layer": [layer], "none": []}[frozen]
    return Arm(name, axes, seen.at_last(stream), lambda steps: run_injected(model, seen, layer, steps, held))


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(-1, keepdim=True)
