"""Cosines between the rows of weight matrices: each latent's nearest neighbour among its own kind, and its encoder beside its decoder.

Symbols: W [m, d], a row a latent. A row of zeros has no direction: what would need it is NaN in the vector that is returned, and it is nobody's
neighbour."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_AT_ONCE = 16_000_000  # cosines held in memory: 64 MB


def nearest_cosine(rows: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
    """For each row the largest cosine with any other, max over i != j of <w_j, w_i> / (|w_j| |w_i|), in [-1, 1]; in chunks, never [m, m] at once.

    Duplicated directions show as 1. The sign counts: opposite rows are far apart. ValueError for fewer than two rows that are not zero."""
    unit, zero = _unit(rows)
    if int((~zero).sum()) < 2:
        raise ValueError(
            f"a nearest neighbour wants two rows that are not zero, got {int((~zero).sum())} of {len(rows)}"
        )
    found = []
    step = max(1, _AT_ONCE // len(unit))
    for start in range(0, len(unit), step):
        cosines = unit[start : start + step] @ unit.T
        cosines[:, zero] = -torch.inf
        own = torch.arange(len(cosines), device=rows.device)
        cosines[own, start + own] = -torch.inf
        found.append(cosines.max(1).values)
    return torch.cat(found).clamp(-1, 1).masked_fill(zero, torch.nan)


def paired_cosine(first: Float[Tensor, "m d"], second: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
    """The cosine of row j of both, in [-1, 1]; encoder and decoder of a latent, say. ValueError for shapes that differ."""
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"wanted two matrices [m, d] of one shape, got {list(first.shape)} and {list(second.shape)}")
    (one, zero_one), (two, zero_two) = _unit(first), _unit(second)
    return (one * two).sum(1).clamp(-1, 1).masked_fill(zero_one | zero_two, torch.nan)


def _unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length 1 in float32, and which of them were zero. ValueError for values that are not finite."""
    if rows.ndim != 2 or not torch.isfinite(rows).all():
        raise ValueError(
            f"wanted finite rows [m, d], got shape {list(rows.shape)} with values that are not, or another"
        )
    rows = rows.detach().float()
    length = rows.norm(dim=1, keepdim=True)
    zero = length == 0
    return rows / length.masked_fill(zero, 1), zero.squeeze(1)
