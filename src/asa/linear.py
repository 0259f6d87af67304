"""The matrix of a linear module, also where an adapter wraps it."""

from __future__ import annotations

import torch
from torch import nn


def matrix(linear: nn.Module) -> torch.Tensor:
    """The matrix [out, in] that a linear module applies: its weight, or, for a module that wraps one (an adapter), what it makes of the unit matrix."""
    weight: torch.Tensor = linear.weight  # type: ignore[assignment]
    if type(linear) is nn.Linear:
        return weight
    applied: torch.Tensor = linear(torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)).T
    return applied
