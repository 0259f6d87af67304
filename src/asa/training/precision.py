"""In which dtype the forward pass runs, and the loss scaling that float16 needs. Parameters and optimiser stay in float32."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from asa.training.settings import Autocast, SettingsError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and loss scaling on one device."""

    def __init__(self, autocast: Autocast, device: torch.device) -> None:
        if autocast == "fp16" and device.type != "cuda":
            raise SettingsError(f"autocast fp16 runs on CUDA only, got device {device}; wanted bf16 or off there")
        self.device = device
        self._dtype = DTYPES.get(autocast)
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast == "fp16")

    def forward(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, dtype=self._dtype) if self._dtype else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state; empty where nothing is scaled."""
        return dict(self.scaler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the scale of a state of the same setting."""
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(state))
