"""Where sums in float64 live, and how many rows are worked on at once."""

from __future__ import annotations

import torch

# Entries of a temporary: on a processor it stays in the cache and adds nothing to the peak of the forward pass.
_CPU_ENTRIES, _ACCELERATOR_ENTRIES = 1 << 18, 1 << 25


def wide_device(device: torch.device) -> torch.device:
    """The device for float64 sums of what was computed on `device`: the device itself, or the CPU beside one that has no such numbers."""
    return torch.device("cpu") if device.type == "mps" else device


def rows_at_once(values: torch.Tensor) -> int:
    """Rows of [n, d] whose temporaries are small."""
    entries = _CPU_ENTRIES if values.device.type == "cpu" else _ACCELERATOR_ENTRIES
    return max(1, entries // max(1, values.shape[1]))
