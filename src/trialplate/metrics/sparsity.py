"""Sparsity of a token: how few units carry one row (population measures), and their mean over tokens with an interval over texts.

Symbols: h = rows [n, d] of n tokens by d units, as the down projection reads them; a = |h|; L1, L2 = sum of a, root of the sum of a^2, over the
units of one token. On the output of an MLP, a signed write into the stream, these numbers say nothing: about half of it is positive in any model.

float32 inside (float64 for float64 rows), after division by the largest entry of the token, so that no scale overflows or vanishes. A token whose
units are all exactly zero has no shape: what is undefined for it is NaN, and `cluster_sums` leaves it out of sums and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import ratio_of_sums

TOKEN_MEASURES = ("act_frac@0", "act_frac@rel", "zero_frac", "treves_rolls", "hoyer")
"""What `token_sparsity` gives for every token, in this order."""

# Entries worked on at once: temporaries stay in the cache of a processor, and within 128 MB on an accelerator.
_CPU_ENTRIES, _ACCELERATOR_ENTRIES = 1 << 18, 1 << 25


def token_sparsity(
    rows: Float[Tensor, "n d"], *, threshold: float = 0.0, relative: float = 0.01
) -> dict[str, Float[Tensor, " n"]]:
    """The measures of TOKEN_MEASURES for every token, shares and ratios in [0, 1], on the device of the rows.

    act_frac@0     share of h > threshold. Of a smooth activation function this is little but the sign of its input.
    act_frac@rel   share of a > relative * max a; scale free; 0 for a token of zeros.
    zero_frac      share of h == 0 exactly; tells something of ReLU only.
    treves_rolls   (mean a)^2 / mean a^2 = (L1/L2)^2 / d, in [1/d, 1]: the participation ratio of the token over its length. Low is sparse.
    hoyer          (sqrt d - L1/L2) / (sqrt d - 1): 0 all alike, 1 one unit alone (Hoyer 2004). Approaches 1 - sqrt(treves_rolls) for large d.

    The last two are NaN for a token of zeros. ValueError for no tokens, fewer than 2 units, and entries that are not finite."""
    _check_rows(rows)
    if not (0 <= relative < 1 and math.isfinite(threshold)):
        raise ValueError(
            f"wanted a finite threshold, and `relative` as a share of the largest entry of a token in [0, 1); got {threshold} and {relative}"
        )
    found = torch.cat([_measures(part, threshold, relative) for part in rows.split(_rows_at_once(rows))], dim=1)
    _check_largest(found[-1])
    return dict(zip(TOKEN_MEASURES, found[:-1], strict=True))


def token_gini(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Gini coefficient of a over the units of every token: 0 all alike, 1 - 1/d one unit alone. NaN for a token of zeros.

    1 - 2 sum_k (x_(k) / L1) (d - k + 1/2) / d with x_(1) <= ... <= x_(d) the sorted a. The one of fifteen measures of sparsity that meets all
    six criteria of Hurley and Rickard (2009, arXiv:0811.4706). It sorts, which costs more than all of `token_sparsity`: take a sample of tokens.
    ValueError as `token_sparsity`."""
    _check_rows(rows)
    d = rows.shape[1]
    places = torch.arange(d, 0, -1, dtype=torch.float64).sub(0.5).div(d)  # (d - k + 1/2) / d
    parts = [_ginis(part, places) for part in rows.split(_rows_at_once(rows))]
    _check_largest(torch.cat([largest for _, largest in parts]))
    return torch.cat([gini for gini, _ in parts])


def cluster_sums(
    measures: Mapping[str, Float[Tensor, " n"]], cluster: Int[Tensor, " n"], n_clusters: int
) -> tuple[Float[Tensor, "c m"], Int[Tensor, "c m"]]:
    """(sums of every measure by cluster, tokens for which it is defined), columns in the order of `measures`; sums in float64.

    cluster: number of each token's text or block of texts, 0 .. n_clusters - 1. Tables of parts of a stream add up to the table of the whole.
    An undefined token (NaN) is neither summed nor counted: the count of undefined tokens is what lacks in the second table."""
    columns = torch.stack(list(measures.values()), dim=1)
    inside = (cluster >= 0) & (cluster < n_clusters)  # where the labels are, which need not be where the rows are
    if cluster.shape != columns.shape[:1] or not bool(inside.all()):
        raise ValueError(
            f"wanted a cluster in 0 .. {n_clusters - 1} for each of {len(columns)} tokens, got {tuple(cluster.shape)} labels of which "
            f"{int((~inside).sum())} lie outside; number the texts from 0"
        )
    where = torch.device("cpu") if columns.device.type == "mps" else columns.device  # mps has no float64
    values, labels = columns.to(where).to(torch.float64), cluster.to(where)
    defined = ~values.isnan()
    sums = values.new_zeros(n_clusters, values.shape[1]).index_add_(0, labels, torch.where(defined, values, 0.0))
    counts = torch.zeros_like(sums, dtype=torch.int64).index_add_(0, labels, defined.long())
    return sums, counts


def population_mean(sums: ArrayLike, counts: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean over tokens of one measure, from its sums and token counts by cluster (columns of `cluster_sums`); n = clusters with tokens.

    Every token weighs the same. Interval over clusters by `statistics.ratio_of_sums`, since tokens of one text resemble each other. Clusters
    without a defined token are left out; ValueError where none has any."""
    above, below = (np.asarray(values, dtype=np.float64) for values in (sums, counts))
    if above.shape != below.shape or above.ndim != 1:
        raise ValueError(f"one sum and one count a cluster are needed, got shapes {above.shape} and {below.shape}")
    used: NDArray[np.bool_] = below != 0
    if not used.any():
        raise ValueError(
            f"the measure is defined for no token of {len(below)} clusters: are all units zero, or is the site dead?"
        )
    return ratio_of_sums(above[used], below[used], level=level)


def _measures(part: Tensor, threshold: float, relative: float) -> Float[Tensor, "measure n"]:
    """The measures of a block of rows, and below them the largest entries."""
    h, d = _wide(part), part.shape[1]
    a = h.abs()
    largest = a.amax(dim=1)
    above, zero = (h > threshold).sum(dim=1), (a == 0).sum(dim=1)
    a /= largest.unsqueeze(1)  # a token of zeros becomes 0/0: undefined from here on
    shares = torch.stack([above, (a > relative).sum(dim=1), zero]).to(h.dtype) / d
    flat = a.sum(dim=1) / torch.linalg.vector_norm(a, dim=1)  # L1/L2, from 1 to sqrt d
    root = math.sqrt(d)
    # rounding must not carry a measure out of its range; clamp leaves NaN alone
    shapes = torch.stack([(flat.square() / d).clamp(max=1), (1 - (flat - 1) / (root - 1)).clamp(0, 1), largest])
    return torch.cat([shares, shapes])


def _ginis(part: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    a = _wide(part).abs()
    largest = a.amax(dim=1)
    ordered = _sorted(a / largest.unsqueeze(1))
    gini = 1 - 2 * (ordered * places.to(ordered)).sum(dim=1) / ordered.sum(dim=1)
    return gini.clamp(0, 1), largest


def _sorted(a: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    # numpy's vectorised sort is an order of magnitude faster than the one of torch on a processor; the values are the same
    return torch.from_numpy(np.sort(a.numpy(), axis=1)) if a.device.type == "cpu" else a.sort(dim=1).values


def _wide(rows: Tensor) -> Tensor:
    return rows.detach() if rows.dtype in (torch.float32, torch.float64) else rows.detach().float()


def _rows_at_once(rows: Tensor) -> int:
    return max(1, (_CPU_ENTRIES if rows.device.type == "cpu" else _ACCELERATOR_ENTRIES) // rows.shape[1])


def _check_rows(rows: Tensor) -> None:
    if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] < 2 or not rows.is_floating_point():
        raise ValueError(
            f"rows are floats [n, d], at least one token of at least two units; got {rows.dtype} {list(rows.shape)}; nothing was measured"
        )


def _check_largest(largest: Tensor) -> None:
    wrong = ~torch.isfinite(largest)
    if bool(wrong.any()):
        raise ValueError(
            f"{int(wrong.sum())} of {len(wrong)} tokens hold NaN or infinity, first token {int(wrong.nonzero()[0])}; "
            "look for overflow in the model (float16?), do not drop the tokens"
        )
