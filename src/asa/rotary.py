"""The position table of write keys and slotspace features, exactly as the published checkpoints were trained with it.

Symbols: D = width (even), f[j] = base^(-2j/D) for j < D/2, angle(t, c) = t * f[c mod D/2]. The partner of a channel is its neighbour
(2p with 2p+1), while the angles follow the half-split convention, so the two members of a pair turn at different speeds. This is not a
rotation and has no relative-position property; "correcting" it changes every trained model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn


class Rotary(nn.Module):
    """Holds `inv_freq` [D/2], which is never part of a checkpoint."""

    inv_freq: torch.Tensor

    def __init__(self, dim: int, base: float) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"rotary positions pair neighbouring channels: wanted an even width, got {dim}")
        self.dim, self.base = dim, base
        self.register_buffer("inv_freq", _frequencies(dim, base), persistent=False)
        self._tables: dict[tuple[int, torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    def table(self, length: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of positions 0 .. length-1, each [length, D], kept for the next call."""
        key = (length, device, dtype)
        found = self._tables.get(key)
        if found is None:
            found = self.at(torch.arange(length, device=device), dtype)
            self._tables = {key: found}  # one length at a time is in use
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}  # tables are made again; a copy need not carry them

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # The frequencies are constants outside the state dict: a module that was made on no device has none until its weights are loaded.
        super()._load_from_state_dict(*args, **kwargs)
        device = torch.device("cpu") if self.inv_freq.is_meta else self.inv_freq.device
        self.inv_freq = _frequencies(self.dim, self.base).to(device, self.inv_freq.dtype)
        self._tables = {}

    def at(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin at integer positions [...], each [..., D] in `dtype`. Angles are formed in the precision of the frequencies."""
        frequencies = self._at_least_float32().to(positions.device)
        angles = positions.to(frequencies.dtype).unsqueeze(-1) * frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _at_least_float32(self) -> torch.Tensor:
        # Casting a module to bfloat16 rounds this buffer too, by up to 0.4 %: 40 radians at position 10,000.
        if self.inv_freq.dtype in (torch.float32, torch.float64):
            return self.inv_freq
        return _frequencies(self.dim, self.base).to(self.inv_freq.device)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [..., D] at its positions: y[2p] = x[2p] cos - x[2p+1] sin; y[2p+1] = x[2p+1] cos + x[2p] sin, each with its own channel's angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    partner = torch.stack((-odd, even), dim=-1).flatten(-2)
    return x * cos + partner * sin


class Turn(NamedTuple):
    """Tables for channels in halves (even ones first): cos and sin of the even channels, then of the odd ones, each broadcasting to a half."""

    cos_even: torch.Tensor
    sin_even: torch.Tensor
    cos_odd: torch.Tensor
    sin_odd: torch.Tensor


def turn_halves(x: torch.Tensor, turn: Turn, axis: int) -> torch.Tensor:
    """`rotate` of x whose channels on `axis` stand even ones first: pairs are the two halves. Without a graph."""
    turned = x.new_empty(x.shape)
    even, odd = x.chunk(2, dim=axis)
    first, second = turned.chunk(2, dim=axis)
    torch.mul(even, turn.cos_even, out=first).addcmul_(odd, turn.sin_even, value=-1)
    torch.mul(odd, turn.cos_odd, out=second).addcmul_(even, turn.sin_odd)
    return turned


def turn_halves_back(d_turned: torch.Tensor, turn: Turn, axis: int) -> torch.Tensor:
    """The gradient of x from that of `turn_halves(x, ...)`."""
    d_x = d_turned.new_empty(d_turned.shape)
    first, second = d_turned.chunk(2, dim=axis)
    even, odd = d_x.chunk(2, dim=axis)
    torch.mul(first, turn.cos_even, out=even).addcmul_(second, turn.sin_odd)
    torch.mul(second, turn.cos_odd, out=odd).addcmul_(first, turn.sin_even, value=-1)
    return d_x


def _frequencies(dim: int, base: float) -> torch.Tensor:
    return 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
