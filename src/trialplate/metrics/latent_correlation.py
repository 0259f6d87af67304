"""Whether matched latents do the same on the same tokens: similarity of functions, where `decoder_similarity` is one of directions.

Symbols: f_a [n, m_a], f_b [n, m_b] codes of the same n tokens by two coders; pairs (i, j) of their latents, from a matching of decoders.
Latents of two seeds are in no common order: correlating them by index measures chance. Codes may be sparse (see `sparse_codes`); what is made is
as large as the entries of the pairs, never n m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import sparse

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.sparse_codes import Codes, columns
from trialplate.metrics.statistics import mean

_LEAST_VARIANCE = 1e-12  # of the mean square: below it, what varies is rounding


@dataclass(frozen=True, slots=True)
class FunctionCorrelation:
    """Pearson correlations of pairs of latents over common tokens.

    pairs         [defined, 2] the pairs that have one: both latents vary on these tokens
    correlation   [defined], in [-1, 1]
    undefined     [others, 2] pairs with a latent that is constant here (mostly: that never fires); no correlation, so no part of the mean"""

    pairs: Int[np.ndarray, "defined 2"]
    correlation: Float[np.ndarray, " defined"]
    undefined: Int[np.ndarray, "others 2"]

    @property
    def mean(self) -> float:
        """Mean correlation of the pairs that have one."""
        return float(np.clip(self.correlation.mean(), -1, 1))


def function_correlation(f_a: Codes, f_b: Codes, pairs: ArrayLike) -> FunctionCorrelation:
    """r_ij = (mean f_i f_j - mean f_i mean f_j) / (sd f_i sd f_j) over tokens, for every pair (i, j).

    pairs: [p, 2], as `np.column_stack(hungarian(dec_a, dec_b)[:2])` gives. Tokens in the same order on both sides.
    ValueError for different numbers of tokens, latents that are not there, or where no pair has a correlation."""
    one, two, chosen = _both(f_a, f_b, pairs)
    return _correlations(one, two, chosen)


def mismatched_correlation(
    f_a: Codes, f_b: Codes, pairs: ArrayLike, rng: np.random.Generator, *, draws: int = 20
) -> Estimate:
    """The null of `function_correlation`: its mean when the partners are dealt at random among the pairs, over `draws` deals.

    It is not 0 where all latents like the same tokens. A deal may leave a pair as it was, one of p on average. ValueError for fewer than 2 pairs."""
    one, two, chosen = _both(f_a, f_b, pairs)
    if len(chosen) < 2 or draws < 2:
        raise ValueError(f"dealing partners wants at least 2 pairs and 2 draws, got {len(chosen)} and {draws}")
    deals = (np.column_stack([chosen[:, 0], rng.permutation(chosen[:, 1])]) for _ in range(draws))
    found = mean([_correlations(one, two, dealt).mean for dealt in deals])
    return Estimate(
        found.value, draws, found.stderr, found.ci, found.level, f"mean of {draws} deals of partners, Student t"
    )


def _both(f_a: Codes, f_b: Codes, pairs: ArrayLike) -> tuple[sparse.csc_array, sparse.csc_array, np.ndarray]:
    one, two, chosen = columns(f_a, "the first code"), columns(f_b, "the second code"), np.asarray(pairs)
    if one.shape[0] != two.shape[0]:
        raise ValueError(
            f"two coders are compared on the same tokens, got {one.shape[0]} and {two.shape[0]}; encode one set of rows with both"
        )
    if chosen.ndim != 2 or chosen.shape[1] != 2 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise ValueError(f"pairs are [p, 2] indices of latents, at least one pair; got {chosen.dtype} {chosen.shape}")
    for side, table in enumerate((one, two)):
        outside = (chosen[:, side] < 0) | (chosen[:, side] >= table.shape[1])
        if outside.any():
            raise ValueError(
                f"pair {int(outside.argmax())} names latent {chosen[outside.argmax(), side]} of {table.shape[1]}; "
                "a matching of alive rows counts those rows: map it back to latents first"
            )
    return one, two, chosen


def _correlations(one: sparse.csc_array, two: sparse.csc_array, pairs: np.ndarray) -> FunctionCorrelation:
    left, right = one[:, pairs[:, 0]], two[:, pairs[:, 1]]
    (mean_a, variance_a), (mean_b, variance_b) = _moments(left), _moments(right)
    covariance = np.asarray(left.multiply(right).sum(axis=0)).ravel() / one.shape[0] - mean_a * mean_b
    defined = (variance_a > 0) & (variance_b > 0)
    if not defined.any():
        raise ValueError(
            f"none of {len(pairs)} pairs has two latents that vary on these {one.shape[0]} tokens; take more tokens, or match alive latents"
        )
    r = covariance[defined] / np.sqrt(variance_a[defined] * variance_b[defined])
    return FunctionCorrelation(pairs[defined], np.clip(r, -1, 1), pairs[~defined])


def _moments(table: sparse.csc_array) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every column; a variance that is only rounding is 0."""
    n = table.shape[0]
    mean_square = np.asarray(table.multiply(table).sum(axis=0)).ravel() / n
    average = np.asarray(table.sum(axis=0)).ravel() / n
    variance = mean_square - average**2
    return average, np.where(variance > _LEAST_VARIANCE * mean_square, variance, 0.0)
