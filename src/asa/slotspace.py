"""Slotspace refinement: read weights attend causally to earlier read weights, in a small space shared by all heads.

u = slot_in r; queries and keys phi(rope(slot_q u)), phi(rope(slot_k u)) with phi(z) = elu(z) + 1 (Katharopoulos et al. 2020,
arXiv:2006.16236); values slot_v u. Values and the output map are linear in r, so attention averages r itself ([K] wide) and both
maps are applied to the average: the same numbers with a state of M x K instead of M x M."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from asa.rotary import rotate

FLOOR = 1e-8


@dataclass(slots=True)
class SlotspaceWeights:
    """Products of the five maps: `queries` and `keys` [M, K] (slot_q slot_in, slot_k slot_in), `values` [M, K] (slot_v slot_in), `out` [K, M]."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    out: torch.Tensor
    gate: torch.Tensor


@dataclass(slots=True)
class SlotspaceState:
    """Sums over earlier tokens: `outer` [b, H, M, K] of key features times read weights, `total` [b, H, M] of key features."""

    outer: torch.Tensor
    total: torch.Tensor


def features(
    weights: torch.Tensor, to_feature: torch.Tensor, cos: torch.Tensor | None, sin: torch.Tensor | None
) -> torch.Tensor:
    """phi(rope(M-wide map of read weights)), [b, H, L, M]. cos and sin broadcast against it; None leaves positions out."""
    mapped = weights @ to_feature.T
    if cos is not None and sin is not None:
        mapped = rotate(mapped, cos, sin)
    return F.elu(mapped) + 1


def average_reads(
    reads: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor, state: SlotspaceState, tile: int = 64
) -> tuple[torch.Tensor, SlotspaceState]:
    """Causal linear attention over read weights: [b, H, L, K], a weighted mean of reads up to each token, and the state after the last.

    Positions whose key features are 0 (masked) must have reads 0 too; they then add nothing."""
    averages = []
    for a in range(0, reads.shape[-2], tile):
        q, k, r = (x[..., a : a + tile, :] for x in (queries, keys, reads))
        scores = (q @ k.transpose(-1, -2)).tril()
        numerator = scores @ r + q @ state.outer
        denominator = scores.sum(-1, keepdim=True) + q @ state.total.unsqueeze(-1)
        averages.append(numerator / denominator.clamp(min=FLOOR))
        state = SlotspaceState(state.outer + k.transpose(-1, -2) @ r, state.total + k.sum(-2))
    return torch.cat(averages, dim=-2), state
