"""What keeps decoder rows at norm 1 while an optimizer moves them. Symbols: d_j = row j of W_dec, g_j its gradient.

A step along d_j would only change its norm, which is taken away again afterwards, while Adam's moments would remember it; so that part of g_j is
taken out before the step (Bricken et al. 2023, "Towards monosemanticity", Anthropic). Both functions go over a matrix once, in pieces that stay in
cache: a product of two whole matrices would be written to memory and read again."""

from __future__ import annotations

import torch
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.errors import TrainingError

PIECE = 256
"""Rows at a time."""


@torch.no_grad()
def project_gradients(coder: Coder) -> None:
    """g_j - <g_j, d_j> d_j in place of g_j, for rows of norm 1 as `renormalise` leaves them. TrainingError where W_dec has no gradient."""
    gradient = coder.W_dec.grad
    if gradient is None:
        raise TrainingError("W_dec has no gradient that could be projected; compute the gradients of a batch first")
    for row, g in zip(coder.W_dec.split(PIECE), gradient.split(PIECE), strict=True):
        g.addcmul_(row, (row * g).sum(1, keepdim=True), value=-1)


@torch.no_grad()
def renormalise(coder: Coder) -> None:
    """d_j / ||d_j|| in place of d_j. A row of zeros has no direction and becomes NaN, which the next loss shows."""
    W_dec: Tensor = coder.W_dec
    W_dec.div_(torch.linalg.vector_norm(W_dec, dim=1, keepdim=True))
