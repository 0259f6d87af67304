"""Straight-through estimators for jumprelu's thresholds (Rajamanoharan et al. 2024, arXiv:2407.14435, equations 11 and 12).

Symbols: z = a pre-activation, t = the threshold of its latent, w = bandwidth, K(u) = 1 for |u| < 1/2, else 0.
A step has no slope, so a threshold would never move. In its place stands the slope of the expected loss, estimated from those
pre-activations that lie in a window of width w around the threshold."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def jumprelu(
    pre: Float[Tensor, "n d_sae"], threshold: Float[Tensor, " d_sae"], bandwidth: float
) -> Float[Tensor, "n d_sae"]:
    """z where z > t and z > 0, else 0. d/dz = 1 where it is active; d/dt is taken to be -(t / w) K((z - t) / w)."""
    return _JumpRelu.apply(pre, threshold, bandwidth)


def step(
    pre: Float[Tensor, "n d_sae"], threshold: Float[Tensor, " d_sae"], bandwidth: float
) -> Float[Tensor, "n d_sae"]:
    """1 where z > t and z > 0, else 0: summed over latents, L0. d/dz is 0; d/dt is taken to be -(1 / w) K((z - t) / w)."""
    return _Step.apply(pre, threshold, bandwidth)


class _JumpRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        active = _active(pre, threshold)
        ctx.save_for_backward(pre, threshold, active)
        ctx.bandwidth = bandwidth
        return pre * active

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, threshold, active = ctx.saved_tensors
        window = _window(pre, threshold, ctx.bandwidth)
        return gradient * active, -(threshold / ctx.bandwidth) * (gradient * window).sum(0), None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return _active(pre, threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        pre, threshold = ctx.saved_tensors
        return None, -(gradient * _window(pre, threshold, ctx.bandwidth)).sum(0) / ctx.bandwidth, None


def _active(pre: Tensor, threshold: Tensor) -> Tensor:
    return (pre > threshold) & (pre > 0)


def _window(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (pre - threshold).abs() < bandwidth / 2
