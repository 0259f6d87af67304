"""Activation objects: pre-activations [n, m] in, sparse latents out. A coder has one; training may ask another of the same name (batchtopk).

Ties are broken by torch.topk. NaN among the pre-activations is kept, so that it is seen in what is made of it, and not taken for silence. All are differentiable in the pre-activations where the function is; jumprelu's threshold gets its gradient from
the straight-through estimators of `straight_through`, not from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.sae.errors import CoderError
from trialplate.sae.latents import Latents


class Activation(Protocol):
    """Turns pre-activations into latents."""

    def __call__(self, pre: Float[Tensor, "n d_sae"]) -> Latents:
        """The latents of n tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Relu:
    """f = max(pre, 0)."""

    def __call__(self, pre: Float[Tensor, "n d_sae"]) -> Latents:
        return _selected(pre, ~(pre <= 0))


@dataclass(frozen=True, slots=True)
class TopK:
    """The k largest pre-activations of every token; `signed` keeps them as they are, otherwise negative ones become 0."""

    k: int
    signed: bool = False

    def __call__(self, pre: Float[Tensor, "n d_sae"]) -> Latents:
        value, index = pre.topk(self.k, dim=-1, sorted=False)
        return Latents.from_rectangle(index, value if self.signed else value.relu(), pre.shape[1])


@dataclass(frozen=True, slots=True)
class BatchTopK:
    """The n k largest positive pre-activations of a batch of n tokens: what batchtopk is trained with. A token may have none."""

    k: int

    def __call__(self, pre: Float[Tensor, "n d_sae"]) -> Latents:
        flat = pre.reshape(-1)
        value, place = flat.topk(min(self.k * len(pre), flat.numel()), sorted=False)
        place = place[~(value <= 0)].sort().values
        return _at(pre, place)


@dataclass(frozen=True, slots=True)
class Threshold:
    """f = max(pre, 0) where pre > threshold, a number or one a latent; strictly above, so a threshold of 0 is ReLU."""

    threshold: Tensor

    def __call__(self, pre: Float[Tensor, "n d_sae"]) -> Latents:
        return _selected(pre, ~(pre <= self.threshold) & ~(pre <= 0))


@dataclass(frozen=True, slots=True)
class Routed:
    """topk within the slice of latents that a router chose for every token.

    bounds  where the slices begin and end, [n_experts + 1]
    choice  the slice of every token, [n]"""

    k: int
    bounds: Int[Tensor, " ends"]
    choice: Int[Tensor, " n"]

    def __call__(self, pre: Float[Tensor, "n d_sae"]) -> Latents:
        latent = torch.arange(pre.shape[1], device=pre.device)
        low, high = self.bounds[self.choice], self.bounds[self.choice + 1]
        outside = (latent < low.unsqueeze(1)) | (latent >= high.unsqueeze(1))
        value, index = pre.masked_fill(outside, -torch.inf).topk(self.k, dim=-1, sorted=False)
        return Latents.from_rectangle(index, value.relu(), pre.shape[1])


def slices(d_sae: int, n_experts: int) -> Int[Tensor, " ends"]:
    """Where n_experts contiguous slices of d_sae latents begin and end; the remainder goes to the first ones."""
    size, more = divmod(d_sae, n_experts)
    if size < 1:
        raise CoderError(f"wanted at most {d_sae} slices of {d_sae} latents, got {n_experts}")
    sizes = torch.tensor([size + (i < more) for i in range(n_experts)])
    return torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])


def _selected(pre: Tensor, kept: Tensor) -> Latents:
    return _at(pre, kept.reshape(-1).nonzero().squeeze(1))


def _at(pre: Tensor, place: Tensor) -> Latents:
    """Latents at ascending places of the flattened pre-activations."""
    n, m = pre.shape
    rows = place // m
    starts = torch.zeros(n + 1, dtype=torch.long, device=pre.device)
    starts[1:] = torch.bincount(rows, minlength=n).cumsum(0)
    return Latents(starts, place % m, pre.reshape(-1)[place], m)
