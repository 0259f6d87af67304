"""Ragged batches: texts moved to column 0, and results moved back.

Chunk borders and position tables count columns, so a text must begin at column 0 whatever side its padding is on. Columns under a mask of 0
are no part of the text, wherever they stand. Symbols: b = rows, T = columns as given, n = tokens of the longest row."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the columns of a batch were moved. `mask` [b, n] is 1 on tokens, None where every row has n; `n_real` [b] counts tokens."""

    valid: torch.Tensor  # [b, T], bool
    n_real: torch.Tensor
    mask: torch.Tensor | None

    def restore(self, aligned: torch.Tensor) -> torch.Tensor:
        """Values [b, n, ...] of tokens back at their columns [b, T, ...]. A masked column repeats the token before it; before the first, it is 0."""
        if self.mask is None and aligned.shape[1] == self.valid.shape[1]:
            return aligned  # no column is masked
        seen = self.valid.cumsum(1)
        place = (
            (seen - 1)
            .clamp(min=0)
            .reshape(*seen.shape, *(1,) * (aligned.ndim - 2))
            .expand(*seen.shape, *aligned.shape[2:])
        )
        return _zeroed(aligned.gather(1, place), seen > 0)

    def last(self, aligned: torch.Tensor) -> torch.Tensor:
        """The value [b, ...] at the last token of each row, of values [b, n, ...]; 0 for a row without tokens."""
        rows = torch.arange(len(self.n_real), device=aligned.device)
        return _zeroed(aligned[rows, (self.n_real - 1).clamp(min=0)], self.n_real > 0)


def align(ids: torch.Tensor, attention_mask: torch.Tensor | None) -> tuple[torch.Tensor, Alignment]:
    """Ids [b, n] with every row's tokens first (0 after them), and how to go back. `attention_mask` [b, T]: non-zero = token.

    Raises ValueError for a mask of another shape."""
    if attention_mask is None:
        valid = torch.ones_like(ids, dtype=torch.bool)
        return ids, Alignment(valid, valid.sum(1), None)
    if attention_mask.shape != ids.shape:
        raise ValueError(
            f"attention_mask: wanted the shape of input_ids, {list(ids.shape)} (batch, time; 1 = token, 0 = padding), got {list(attention_mask.shape)}"
        )
    valid = attention_mask != 0
    n_real = valid.sum(1)
    longest = int(n_real.max()) if len(ids) else 0
    order = torch.sort((~valid).to(torch.uint8), dim=1, stable=True).indices[:, :longest]
    inside = torch.arange(longest, device=ids.device) < n_real.unsqueeze(1)
    moved = _zeroed(ids.gather(1, order), inside)
    return moved, Alignment(valid, n_real, None if bool(inside.all()) else inside.long())


def _zeroed(values: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    return values.masked_fill(~keep.reshape(*keep.shape, *(1,) * (values.ndim - keep.ndim)), 0)
