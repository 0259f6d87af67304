"""Which pairs of units fire together more often than independent units of their rates would: the edges of a co-activation graph.

Symbols: T, n_i, C_ij as in `coactivation`. Independent units: C_ij is hypergeometric with mean n_i n_j / T and variance
n_i (T - n_i) n_j (T - n_j) / (T^2 (T - 1)). Z_ij = (C_ij - mean) / sd, phi_ij = Z_ij / sqrt(T - 1), the correlation of two bits.

The p-value is the exact upper tail P(X >= C_ij), Fisher's exact test. The normal tail of Z is far too small where few joint firings are
expected: with n = 50 each of T = 5000, four joint firings have Z = 5.0 and a normal tail of 3e-7, but a probability of 1.5e-3.

Pointwise mutual information is no measure of this: it is largest where one joint firing of two rare units is enough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln, ndtri

from trialplate.metrics.coactivation import Coactivation


class Association(NamedTuple):
    """Pairs of units that fire together, found at a false discovery rate.

    units:   [u] the units that were tested, ascending. n_tests: u (u - 1) / 2.
    pairs:   [m, 2] units of each pair found, the smaller first. phi, z, p: [m] of each; phi in (0, 1]."""

    units: Int[np.ndarray, " unit"]
    n_tests: int
    pairs: Int[np.ndarray, "edge 2"]
    phi: Float[np.ndarray, " edge"]
    z: Float[np.ndarray, " edge"]
    p: Float[np.ndarray, " edge"]


def associated_pairs(counts: Coactivation, *, fdr: float = 0.01, min_firings: int = 50) -> Association:
    """Pairs with more joint firings than independence allows: one-sided, Benjamini and Hochberg's step-up (1995) over all pairs tested.

    min_firings: units that fire on fewer tokens, or are silent on fewer, are not tested; at least 1, as a constant has no association.
    Tokens count as independent. Those of one document are not, so p is too small on running text: compare with `surrogates`.
    ValueError for fdr outside (0, 0.1], or fewer tokens than any unit could be tested on."""
    total, firings = counts.n_tokens, counts.firings
    if not 0 < fdr <= 0.1:
        raise ValueError(f"a false discovery rate for edges lies in (0, 0.1], got {fdr}; 1 % is 0.01")
    if min_firings < 1 or total < 2 * min_firings:
        raise ValueError(
            f"a unit is tested if it fires on {min_firings} tokens and is silent on as many (at least 1 each), which {total} tokens "
            "do not allow; take more tokens or a smaller min_firings"
        )
    units = np.flatnonzero((firings >= min_firings) & (firings <= total - min_firings))
    n = firings[units].astype(np.float64)
    together = counts.counts[np.ix_(units, units)]
    spread = np.sqrt(n * (total - n))
    phi = (total * together - np.outer(n, n)) / np.outer(spread, spread)
    z = phi * np.sqrt(total - 1)
    a, b = np.nonzero(np.triu(z > _least_z(fdr), 1))
    p = upper_tail(together[a, b], firings[units[a]], firings[units[b]], total)
    n_tests = len(units) * (len(units) - 1) // 2
    kept = _step_up(p, n_tests, fdr)
    a, b = a[kept], b[kept]
    return Association(units, n_tests, np.stack([units[a], units[b]], axis=1), phi[a, b], z[a, b], p[kept])


def upper_tail(
    together: Int[np.ndarray, " pair"], first: Int[np.ndarray, " pair"], second: Int[np.ndarray, " pair"], total: int
) -> Float[np.ndarray, " pair"]:
    """P(X >= together) for X hypergeometric: tokens on which two independent units fire that fire on `first` and `second` of `total`.

    Sums the tail upwards until a term adds less than 1e-12 of the sum; meant for counts above the mean, where terms fall."""
    c, n, m = (np.asarray(x, dtype=np.float64) for x in (together, first, second))
    rest = total - n - m
    term = np.exp(
        sum(gammaln(x + 1) for x in (n, total - n, m, total - m))
        - sum(gammaln(x + 1) for x in (c, n - c, m - c, rest + c))
        - gammaln(total + 1)
    )
    tail, open_ = term.copy(), np.arange(len(term))
    while open_.size:
        term = term * (n - c) * (m - c) / ((c + 1) * (rest + c + 1))
        tail[open_] += term
        more = term > 1e-12 * tail[open_]
        open_, term, c, n, m, rest = (x[more] for x in (open_, term, c + 1, n, m, rest))
    return np.minimum(tail, 1.0)


def _least_z(fdr: float) -> float:
    """A Z below which the exact tail is above `fdr`, so that the pair need not be summed: 1.96 for 1 %.

    A normal tail there is 2.5 fdr; skewness of the counts never makes the exact one smaller by more than that (a test goes through them)."""
    return float(-ndtri(2.5 * max(fdr, 0.001)))


def _step_up(p: np.ndarray, n_tests: int, fdr: float) -> np.ndarray:
    """Indices, ascending, of the p-values found among n_tests, of which those that are not listed are larger than `fdr`."""
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= fdr * np.arange(1, len(p) + 1) / max(n_tests, 1))
    return np.sort(order[: below[-1] + 1]) if below.size else np.arange(0)
