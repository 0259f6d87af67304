"""Margins and axes are computed in at least float32, whatever the model computes in: half precision keeps three digits of a difference."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The same values; float64 stays float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
