"""Edits of a code before it is decoded: latents switched off, scaled, held or raised. What `splice` takes as `edit`.

Each returns a function from latents to latents; every other latent stays as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae.errors import CoderError
from trialplate.sae.latents import Latents

Edit = Callable[[Latents], Latents]


def ablate(latents: Sequence[int]) -> Edit:
    """These latents are 0 on every token."""
    return scale(latents, 0.0)


def scale(latents: Sequence[int], factor: float) -> Edit:
    """These latents times a factor, where they are active."""

    def edit(code: Latents) -> Latents:
        chosen = _chosen(latents, code)
        hit = torch.isin(code.index, chosen)
        # where, not a product: 0 times an infinite activation is NaN
        scaled = torch.where(hit, code.value * factor if factor else torch.zeros_like(code.value), code.value)
        return Latents(code.starts, code.index, scaled, code.d_sae)

    return edit


def hold(latents: Sequence[int], value: float) -> Edit:
    """These latents are `value` on every token, active or not."""

    def edit(code: Latents) -> Latents:
        chosen = _chosen(latents, code)
        return _with_columns(code, chosen, code.value.new_full((len(code), len(chosen)), value))

    return edit


def add(latents: Sequence[int], amount: float) -> Edit:
    """`amount` is added to these latents on every token, active or not: steering along their decoder rows."""

    def edit(code: Latents) -> Latents:
        chosen = _chosen(latents, code)
        return _with_columns(code, chosen, code.at(chosen) + amount)

    return edit


def _chosen(latents: Sequence[int], code: Latents) -> Tensor:
    if not len(latents) or len(set(latents)) < len(latents) or min(latents) < 0 or max(latents) >= code.d_sae:
        raise CoderError(
            f"wanted latents of 0 .. {code.d_sae - 1}, at least one and each once, got {list(latents)[:10]}"
        )
    return torch.as_tensor(list(latents), device=code.index.device)


def _with_columns(code: Latents, chosen: Tensor, columns: Float[Tensor, "n chosen"]) -> Latents:
    """The code with some latents replaced on every token."""
    kept = ~torch.isin(code.index, chosen)
    n = len(code)
    rows = torch.cat([code.rows[kept], torch.arange(n, device=chosen.device).repeat_interleave(len(chosen))])
    order = rows.argsort(stable=True)
    starts = torch.zeros_like(code.starts)
    starts[1:] = torch.bincount(rows, minlength=n).cumsum(0)
    index = torch.cat([code.index[kept], chosen.repeat(n)])[order]
    value = torch.cat([code.value[kept], columns.reshape(-1)])[order]
    return Latents(starts, index, value, code.d_sae)
