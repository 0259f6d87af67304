"""Trajectories: where the routing of a prompt walks from its first token to its last, in two or three principal axes of one layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.routing.errors import ProbeError
from trialplate.routing.late_window import WINDOW, late_window, principal_axes
from trialplate.routing.undisturbed import Undisturbed


def trajectory_bundle(
    seen: Undisturbed, layer: int, *, n_axes: int = 2, window: int = WINDOW
) -> list[Float[Tensor, "seq axis"]]:
    """Z of every valid token of each prompt in the axes of the late window. With three axes the points are put on the unit sphere."""
    if n_axes not in (2, 3):
        raise ProbeError(f"a bundle has 2 or 3 axes, got {n_axes}")
    z = seen.mean_read_logits(layer)
    axes = principal_axes(z[late_window(seen.mask, window, with_first=True)], n_axes, f"read logits of layer {layer}")
    paths = [axes.coordinates(points[valid]) for points, valid in zip(z, seen.mask, strict=True)]
    return [torch.nn.functional.normalize(path, dim=-1) for path in paths] if n_axes == 3 else paths
