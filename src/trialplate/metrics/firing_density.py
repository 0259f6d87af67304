"""How often latents fire. Symbols: m latents, n tokens, c_j tokens on which latent j is not zero, density p_j = c_j / n.

Dead means c_j = 0 among these n tokens: a claim about the tokens as much as about the latent, so n travels with it. No thresholds for good or bad
live here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Counts = NDArray[np.int64]


class DensityHistogram(NamedTuple):
    """Latents by log10 of their density.

    edges   [b + 1] of log10 p, ascending, the last 0 (always on); a bin holds its lower edge, the last one both
    counts  [b] latents
    dead    latents that never fired, which have no logarithm; counts and dead add up to m"""

    edges: Vector
    counts: Counts
    dead: int


@dataclass(frozen=True, eq=False)
class FiringDensity:
    """Firings of m latents over n tokens. ValueError for no latents, no tokens, or counts that are none (negative, above n)."""

    fired: Counts
    n_tokens: int

    def __post_init__(self) -> None:
        fired = np.asarray(self.fired)
        if fired.ndim != 1 or fired.size == 0 or fired.dtype.kind not in "iu":
            raise ValueError(f"firings are whole numbers [m], got {fired.dtype} of shape {fired.shape}")
        if self.n_tokens < 1:
            raise ValueError(f"a density is taken over tokens, got {self.n_tokens} of them")
        if fired.min() < 0 or fired.max() > self.n_tokens:
            raise ValueError(
                f"a latent fires on 0 to {self.n_tokens} tokens, got {fired.min()} to {fired.max()}; are both counted over the same tokens?"
            )
        object.__setattr__(self, "fired", fired.astype(np.int64))

    @property
    def values(self) -> Vector:
        """p [m], in [0, 1]."""
        return self.fired / self.n_tokens

    @property
    def alive(self) -> NDArray[np.bool_]:
        """[m]: fired at least once."""
        return self.fired > 0

    @property
    def alive_frac(self) -> float:
        """Share of latents that fired at least once; grows with the number of tokens."""
        return float(self.alive.mean())

    @property
    def dead_frac(self) -> float:
        """1 - alive_frac."""
        return float((~self.alive).mean())

    def share_above(self, cut: float) -> float:
        """Share of latents with p > cut. SAEBench reports it at 0.01 and 0.1."""
        return float((self.values > _share(cut)).mean())

    def mass_above(self, cut: float) -> float:
        """Sum of densities above the cut / sum of all: the share of L0 that dense latents make. ValueError where nothing fires."""
        total = int(self.fired.sum())
        if total == 0:
            raise ValueError(
                f"none of {self.fired.size} latents fired on {self.n_tokens} tokens: shares of 0 are undefined"
            )
        return float(self.fired[self.values > _share(cut)].sum()) / total

    def histogram(self, per_decade: int = 5) -> DensityHistogram:
        """Counts over equal steps of log10 p, from the decade of 1 / n (firing once) to 0, and the dead apart."""
        if per_decade < 1:
            raise ValueError(f"a histogram wants at least one bin a decade, got {per_decade}")
        decades = max(1, math.ceil(math.log10(self.n_tokens)))
        edges = np.linspace(-decades, 0.0, decades * per_decade + 1)
        # clipped: the last digit of a logarithm must not lose a latent at an end
        logs = np.log10(self.values[self.alive]).clip(edges[0], edges[-1])
        counts, _ = np.histogram(logs, bins=edges)
        return DensityHistogram(edges, counts.astype(np.int64), int((~self.alive).sum()))


def consistent_activation(fired: ArrayLike, documents: ArrayLike) -> Vector:
    """Tokens on which a latent fires / documents in which it fires, [m]: 1 for a latent of single tokens, large for one of whole documents.

    NaN for a latent that never fires (0 / 0). ValueError for shapes that differ, or a latent that fires in more documents than tokens."""
    tokens, texts = np.asarray(fired, dtype=np.float64), np.asarray(documents, dtype=np.float64)
    if tokens.ndim != 1 or tokens.shape != texts.shape:
        raise ValueError(f"wanted firings and documents [m] of one length, got {tokens.shape} and {texts.shape}")
    if (texts > tokens).any() or ((texts == 0) != (tokens == 0)).any():
        raise ValueError("a latent fires in at most as many documents as tokens, and in one if it fires at all")
    found = np.full(tokens.shape, np.nan)
    np.divide(tokens, texts, out=found, where=texts > 0)
    return found


def _share(cut: float) -> float:
    if not 0 <= cut < 1:
        raise ValueError(f"a density lies between 0 and 1, so does the cut; got {cut}")
    return cut
