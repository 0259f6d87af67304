"""What decoding carries from token to token: constant in size, whatever the length of the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from asa.scan import WriteState
from asa.slotspace import SlotspaceState


@dataclass(slots=True)
class LayerState:
    """One attention layer: per head 2Kd + 4K numbers of the write, and MK + M of slotspace where the layer has it."""

    write: WriteState
    slotspace: SlotspaceState | None

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor of the state, rows first."""
        for part in (self.write, self.slotspace):
            if part is not None:
                yield from (getattr(part, f.name) for f in dataclasses.fields(part))

    def select(self, rows: torch.Tensor) -> LayerState:
        """The state of some rows (a LongTensor; repeats are allowed)."""
        return LayerState(_select(self.write, rows), None if self.slotspace is None else _select(self.slotspace, rows))


@dataclass(slots=True)
class ASMState:
    """All layers, and `position` [b]: how many tokens each row has read. Rows may stand at different positions."""

    layers: list[LayerState]
    position: torch.Tensor

    def select(self, rows: torch.Tensor) -> ASMState:
        """The state of some rows (a LongTensor; repeats are allowed)."""
        return ASMState([layer.select(rows) for layer in self.layers], self.position[rows])

    def numel_per_row(self) -> int:
        """Numbers kept for one row, over all layers; independent of the position."""
        batch = self.position.shape[0]
        return sum(tensor.numel() for layer in self.layers for tensor in layer.tensors()) // max(batch, 1)


def empty_layer_state(
    batch: int, heads: int, slots: int, width: int, wide: int, *, dtype: torch.dtype, device: torch.device
) -> LayerState:
    """The state before any token; `wide` is the slotspace width, 0 without slotspace."""
    write = WriteState.empty(batch, heads, slots, width, dtype=dtype, device=device)
    if wide == 0:
        return LayerState(write, None)
    outer = torch.zeros(batch, heads, wide, slots, dtype=dtype, device=device)
    return LayerState(write, SlotspaceState(outer, torch.zeros(batch, heads, wide, dtype=dtype, device=device)))


def _select(part: Any, rows: torch.Tensor) -> Any:
    return type(part)(*(getattr(part, f.name)[rows] for f in dataclasses.fields(part)))
