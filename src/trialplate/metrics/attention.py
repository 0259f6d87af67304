"""Where induction heads look: attention to the token that followed the last time (prefix matching, Olsson et al. 2022, arXiv:2209.11895).

Axes: attention[batch, head, dst, src] are probabilities (rows add up to 1), ids[batch, seq] the tokens attended over, seq = dst = src."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor


def prefix_matching_scores(
    attention: Float[Tensor, "batch head dst src"], ids: Int[Tensor, "batch seq"]
) -> NDArray[np.float64]:
    """[batch, head] scores in [0, 1]: mean over the tokens seen before of the attention to their earlier successors.

    Destination i counts if its token occurred at some j - 1 < i - 1; its score is the attention summed over those sources j.
    On a random block repeated once (period L) that is the mean attention from i to i - L + 1 over the second block. Compare
    with `uniform_prefix_matching`. Raises ValueError when nothing repeats or the rows of `attention` are not probabilities."""
    _check_probabilities(attention, ids)
    successors = _earlier_successors(ids)
    destinations = _destinations(successors)
    mass = torch.einsum("bhds,bds->bh", attention.double(), successors.double())
    return (mass / destinations.unsqueeze(1)).cpu().numpy()


def uniform_prefix_matching(ids: Int[Tensor, "batch seq"]) -> NDArray[np.float64]:
    """[batch] score of a head that attends evenly to all positions up to its own: the null of `prefix_matching_scores`."""
    successors = _earlier_successors(ids)
    visible = torch.arange(1, ids.shape[1] + 1, dtype=torch.float64, device=ids.device)
    return ((successors.sum(-1) / visible).sum(-1) / _destinations(successors)).cpu().numpy()


def _earlier_successors(ids: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch dst src"]:
    """True where src follows an earlier occurrence of the token at dst: ids[src - 1] == ids[dst], 1 <= src < dst."""
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise ValueError(f"ids are [batch, seq] with at least 2 tokens, got shape {tuple(ids.shape)}")
    same = ids.unsqueeze(2) == ids.roll(1, dims=1).unsqueeze(1)
    earlier = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril(-1)
    earlier[:, 0] = False  # the roll brought the last token in front of position 0, which follows nothing
    return same & earlier


def _destinations(successors: Bool[Tensor, "batch dst src"]) -> Float[Tensor, " batch"]:
    count = successors.any(-1).sum(-1).double()
    if (count == 0).any():
        row = int((count == 0).nonzero()[0])
        raise ValueError(
            f"sequence {row} repeats no token, so there is no prefix to match; score repeated sequences only"
        )
    return count


def _check_probabilities(attention: Float[Tensor, "batch head dst src"], ids: Int[Tensor, "batch seq"]) -> None:
    batch, seq = ids.shape
    if attention.ndim != 4 or attention.shape[0] != batch or attention.shape[2:] != (seq, seq):
        raise ValueError(
            f"attention is [batch, head, dst, src] over the ids {tuple(ids.shape)}, got shape {tuple(attention.shape)}"
        )
    sums = attention.double().sum(-1)
    # half precision keeps about three digits of each probability
    if not bool(((sums - 1).abs() < 0.02).all()) or bool((attention < 0).any()):
        raise ValueError(
            f"rows of attention are probabilities, got row sums from {sums.min():.4g} to {sums.max():.4g}; pass the values after "
            "softmax, of an eager attention without dropout"
        )
