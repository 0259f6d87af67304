"""Along what to step: gradients of the margin in an arm's axes, taken where the model stands, and the direction that the others chose."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trialplate.routing.arms import Arm
from trialplate.routing.errors import ProbeError

Margin = Callable[[Float[Tensor, "n prompt vocab"]], Float[Tensor, "n prompt"]]
RELATIVE_STEP = 0.01
"""Length of the central differences: this part of the norm of what is moved."""


def axis_gradients(arm: Arm, margin: Margin) -> Float[Tensor, "prompt axis"]:
    """Central differences of each prompt's margin along each axis, about the origin of the arm itself: no other displacement.

    Raises ProbeError where the origin is zero, so that no step is small or large."""
    length = RELATIVE_STEP * arm.origin.norm(dim=1)  # [prompt]
    if bool((length == 0).any()):
        row = int((length == 0).nonzero()[0])
        raise ProbeError(
            f"{arm.name}: zero at the last token of prompt {row} (for read logits: equal in all slots), so a step has no size; leave the "
            "layer out"
        )
    steps = arm.axes.directions.T.unsqueeze(1) * length.unsqueeze(1)  # [axis, prompt, dim]
    up, down = margin(arm.run(torch.cat([steps, -steps]))).chunk(2)
    return ((up - down) / (2 * length)).T


def others_direction(
    gradients: Float[Tensor, "prompt axis"], counted: Bool[Tensor, " prompt"]
) -> Float[Tensor, "prompt axis"]:
    """For each prompt the unit vector along the mean gradient of the counted prompts other than itself; zero where that mean is zero."""
    own = gradients * counted.unsqueeze(1)
    others = own.sum(0) - own
    norm = others.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, others / norm.clamp_min(torch.finfo(norm.dtype).tiny), torch.zeros_like(others))
