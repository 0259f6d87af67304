"""How a text is cut for the tiled form: tiles of L tokens, segments of some tiles, and the layouts between them.

Symbols: b = batch, H = heads, G = H b (heads first), n = tiles of a segment, L = tokens of a tile, S = n L or less, K = slots, d = head width."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn import functional as F

SMALLEST_TILE, USUAL_TILE, LARGEST_TILE = 8, 32, 128
ENDLESS = 2**40  # a chunk that reaches to the end of any text
SEGMENT_ROWS = 8192  # tokens times heads times batch: fewer cost more calls, more fall out of the cache


@dataclass(frozen=True)
class Plan:
    """Sizes and switches of a call. `chunk` is a multiple of `tile`, or ENDLESS."""

    batch: int
    heads: int
    slots: int
    width: int
    wide: int  # slotspace width M; 0 without slotspace
    tile: int
    chunk: int
    segment: int
    read_temperature: float
    signed: bool
    masks_before_features: bool

    @cached_property
    def groups(self) -> int:
        """Rows of a state: heads times batch."""
        return self.heads * self.batch

    @cached_property
    def numbers_per_row(self) -> int:
        """About how many numbers the way back keeps for each token of each head."""
        mixed = 3 * (self.tile + 2 * self.slots) + self.tile + 3 * self.wide
        return mixed + 8 * self.slots + 2 * self.width

    def segments(self, length: int) -> list[tuple[int, int]]:
        """First column and end of each segment."""
        return [(a, min(a + self.segment, length)) for a in range(0, length, self.segment)]


def tile_length(chunk: int, length: int) -> int | None:
    """Tokens of a tile: the divisor of the chunk that is nearest to 32; None where it has none from 8 to 128."""
    if chunk == 0 or chunk >= length:
        return min(USUAL_TILE, length)
    fitting = [size for size in range(SMALLEST_TILE, LARGEST_TILE + 1) if chunk % size == 0]
    return min(fitting, key=lambda size: abs(size - USUAL_TILE)) if fitting else None


def segment_length(tile: int, chunk: int, groups: int) -> int:
    """Tokens of a segment, about SEGMENT_ROWS rows over all groups: whole chunks, or an equal part of a longer chunk."""
    wanted = max(SEGMENT_ROWS // groups, tile)
    if chunk == ENDLESS:
        return wanted // tile * tile
    if wanted >= chunk:
        return wanted // chunk * chunk
    tiles = chunk // tile
    return max(count for count in range(1, tiles + 1) if tiles % count == 0 and count * tile <= wanted) * tile


def to_tiles(plan: Plan, x: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
    """[H, rows, b, S] -> [G n, rows, L], contiguous; a ragged last tile is filled."""
    if padding := -x.shape[-1] % plan.tile:
        x = F.pad(x, (0, padding), value=fill)
    tiled = x.unflatten(-1, (-1, plan.tile)).permute(0, 2, 3, 1, 4)
    return tiled.reshape(-1, x.shape[1], plan.tile)


def from_tiles(plan: Plan, x: torch.Tensor, into: torch.Tensor) -> None:
    """[G n, rows, L] written into a view [H, rows, b, S]; what fills a ragged last tile is left out."""
    whole = x.view(plan.heads, plan.batch, -1, x.shape[1], plan.tile).permute(0, 3, 1, 2, 4)
    span = into.shape[-1]
    full = span // plan.tile
    into[..., : full * plan.tile].unflatten(-1, (full, plan.tile)).copy_(whole[..., :full, :])
    if rest := span - full * plan.tile:
        into[..., full * plan.tile :].copy_(whole[..., full, :rest])
