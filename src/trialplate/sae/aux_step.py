"""The AuxK term's gradients by dense products over the dead latents alone. Symbols: n tokens, q dead latents, k of them may explain a token's error
e; u the code of the dead ones, e' = u D with their decoder rows D [q, d_out], x^ what the encoder sees, E [q, d_in] their encoder rows.

While a coder has few dead latents, k is a large part of them, and u is hardly sparse: four products over q latents then take less time than sums over
n k entries do. Tokens go by in pieces, so that no matrix of all of them is made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.sae.coder import Coder

WORTH_IT = 8
"""Dense products are faster while there are at most so many times k dead latents (an entry of a sparse sum costs as much as 8 to 11 of a product)."""


@dataclass(frozen=True, slots=True)
class DeadRows:
    """What the dead latents, by number, get from a loss scale / 2 sum ||e' - e||^2, and that sum of squares."""

    numbers: Int[Tensor, " q"]
    W_dec: Float[Tensor, "q d_out"]
    encoder: Float[Tensor, "q d_in"]
    b_enc: Float[Tensor, " q"]
    squared: float


def explained_by_dead(
    coder: Coder,
    seen: Float[Tensor, "n d_in"],
    error: Float[Tensor, "n d_out"],
    numbers: Int[Tensor, " q"],
    k: int,
    *,
    scale: float,
    piece: int,
) -> DeadRows:
    """How far the k strongest dead latents of every token are from its error, and the gradients of that. Wants no gradient mode."""
    reads, bias, writes = coder.encoder[numbers], coder.b_enc[numbers], coder.W_dec[numbers]
    got = DeadRows(numbers, torch.zeros_like(writes), torch.zeros_like(reads), torch.zeros_like(bias), 0.0)
    squared = 0.0
    for x, e in zip(seen.split(piece), error.split(piece), strict=True):
        code = _strongest(torch.addmm(bias, x, reads.T), k)
        pull = torch.addmm(e, code, writes, beta=-1)
        squared += float(torch.linalg.vector_norm(pull, dim=1).double().square().sum())
        pull *= scale
        slope = (pull @ writes.T) * (code > 0)
        got.W_dec.addmm_(code.T, pull)
        got.encoder.addmm_(slope.T, x)
        got.b_enc.add_(slope.sum(0))
    return DeadRows(numbers, got.W_dec, got.encoder, got.b_enc, squared)


def _strongest(pre: Tensor, k: int) -> Tensor:
    """The k largest of every row after the ReLU; all other entries zero."""
    if k >= pre.shape[1]:
        return pre.relu_()
    value, index = pre.topk(k, dim=1, sorted=False)
    return torch.zeros_like(pre).scatter_(1, index, value.relu_())
