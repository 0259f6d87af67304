"""In how many directions activations vary: two measures of a covariance, each with what white noise shows at the same size.

Symbols: C = covariance [d, d] of d units over T tokens, about their mean (any multiple will do: all measures are free of scale, so the scatter
matrix serves as well); l_i = its eigenvalues; f = T - 1 degrees of freedom; m, M = the smaller and the larger of d and f.

Few tokens bound every such number (C has rank f at most), so neither is ever read without its white-noise value. How many units a single token
uses is no matter of covariance: that is `treves_rolls` of `sparsity`, times d."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh

Matrix = NDArray[np.float64]


def pr_cov(covariance: ArrayLike) -> float:
    """Participation ratio (tr C)^2 / ||C||_F^2 = (sum l)^2 / sum l^2, in dimensions, from 1 (one direction) to d (all alike).

    It does not grow with the number of tokens once that is well above d. ValueError for what is no covariance, or has no variance."""
    C = _covariance(covariance)
    return float(np.trace(C) ** 2 / np.square(C).sum())


def pr_cov_white(d: int, n_tokens: int) -> float:
    """What `pr_cov` shows on white Gaussian noise of d units over T tokens: (f d + 2) / (f + d + 1), which is near d T / (d + T).

    The scatter of such noise is a Wishart matrix W with f degrees of freedom: E (tr W)^2 = f d (f d + 2), E tr W^2 = f d (f + d + 1), and
    tr W^2 / (tr W)^2 is independent of tr W. Hence 1 / E[1 / pr_cov] is this number exactly; E[pr_cov] lies above it by the relative variance of
    1 / pr_cov, below 0.3 % for d and f from 20 on."""
    f = _degrees(d, n_tokens)
    return (f * d + 2) / (f + d + 1)


def erank(covariance: ArrayLike) -> float:
    """Effective rank exp(-sum p ln p) with p_i = l_i / sum l and 0 ln 0 = 0 (Roy and Vetterli 2007), in dimensions, from 1 to d; >= pr_cov.

    Of the covariance, whose singular values are variances; the effective rank of the rows themselves (standard deviations) is larger."""
    C = _covariance(covariance)
    values = eigh(C, eigvals_only=True, check_finite=False)
    if values[0] < -1e-5 * values[-1]:
        raise ValueError(
            f"a covariance has no negative eigenvalue, got {values[0]:.6g} beside {values[-1]:.6g}; was it merged from parts with their means?"
        )
    shares = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def erank_white(d: int, n_tokens: int) -> float:
    """What `erank` shows on white noise of d units over T tokens: m exp(-m / (2 M)).

    The limit of Marchenko and Pastur (1967) in closed form: the entropy of the normalised eigenvalues tends to ln m - m / (2 M), which is also
    the leading part of Page's mean entropy (1993, arXiv:gr-qc/9305007). Of real Gaussian noise the mean lies below it by a share of 1 / (2 M) for
    m well below M, and of at most 0.39 / m (at d = f)."""
    f = _degrees(d, n_tokens)
    m, M = min(d, f), max(d, f)
    return m * math.exp(-m / (2 * M))


def _degrees(d: int, n_tokens: int) -> int:
    if d < 1 or n_tokens < 2:
        raise ValueError(f"a covariance needs at least one unit and two tokens, got d={d}, n_tokens={n_tokens}")
    return n_tokens - 1


def _covariance(covariance: ArrayLike) -> Matrix:
    """C over its largest entry, so that squares neither overflow nor vanish."""
    C = np.asarray(covariance, dtype=np.float64)
    if C.ndim != 2 or C.shape[0] != C.shape[1] or not C.size:
        raise ValueError(f"a covariance is [d, d], got shape {C.shape}")
    largest = float(np.abs(C).max())
    if not math.isfinite(largest):
        raise ValueError("the covariance holds NaN or infinity; look for overflow in the model (float16?)")
    if np.diagonal(C).min() < 0 or not np.allclose(C, C.T, rtol=0, atol=1e-5 * largest):
        raise ValueError(
            "a covariance is symmetric with no negative variance; this is not one: are these the rows instead?"
        )
    if largest == 0:
        raise ValueError(
            "nothing varies: all variances are zero, so that no direction explains anything; is the site dead?"
        )
    return C / largest
