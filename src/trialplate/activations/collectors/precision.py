"""Where sums in float64 live: on the device itself, or beside it where the device has no such numbers."""

from __future__ import annotations

import torch


def wide_device(device: torch.device) -> torch.device:
    """The device for float64 sums of what was computed on `device`."""
    return torch.device("cpu") if device.type == "mps" else device
