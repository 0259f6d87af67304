"""Who reads whom: the share that each earlier token's value has in what a head reads, a lower-triangular [T, T] map as in softmax attention.

A slot state is a convex mixture of past values and a read a convex mixture of slots, so a read is a convex mixture of past values:
share[t, s] = sum over slots k of r_t[k] * p_t[k, s], where p_t[k] are the weights of slot k's mixture at time t (specified by the write
logits, the chunk size and the write mode). Rows sum to 1 where anything was written. The refinement delta is not part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def attention_map(info: Mapping[str, Any], chunk: int, *, exact: bool = False) -> torch.Tensor:
    """The map [b, H, T, T] (query, key) of a layer from the record of a call: `read_weights` [b, H, T, K] and `write_logits` [b, H, K, T].

    `chunk` is the layer's write chunk size (0: the whole sequence), `exact` its write mode. Memory grows with T * T of one slot at a time.
    Raises ValueError where the record lacks either."""
    reads, logits = info.get("read_weights"), info.get("write_logits")
    if reads is None or logits is None:
        raise ValueError(
            "attention_map: wanted a record with read_weights and write_logits, got one without; call the layer with return_info=True"
        )
    total = torch.zeros(*reads.shape[:3], logits.shape[-1], dtype=logits.dtype, device=logits.device)
    for slot in range(logits.shape[2]):
        total += reads[..., slot].to(logits.dtype).unsqueeze(-1) * _mixture(logits[:, :, slot], chunk, exact)
    return total


def _mixture(logits: torch.Tensor, chunk: int, exact: bool) -> torch.Tensor:
    """Weights [b, H, T, T] of one slot's state at t over the tokens s, from its write logits [b, H, T]."""
    length = logits.shape[-1]
    highest = logits.cummax(-1).values
    time = torch.arange(length, device=logits.device)
    if exact:
        relative = logits.unsqueeze(-2) - highest.unsqueeze(-1)  # exp(w_s - Mx_t)
    else:
        size = chunk or length
        end = ((time // size + 1) * size - 1).clamp(max=length - 1)
        later = (
            time.unsqueeze(1) // size > time // size
        )  # t in a later chunk than s: rescaled when s's chunk was folded
        decay = highest[..., end].unsqueeze(-2) - highest.unsqueeze(-1)
        relative = (logits - highest).unsqueeze(-2) + torch.where(later, decay, 0.0)
    weights = relative.exp().nan_to_num(0.0).tril()  # nan: nothing was written yet
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-8)
