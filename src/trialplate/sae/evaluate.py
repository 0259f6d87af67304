"""What a coder makes of held-out rows: one record of core numbers, each with an interval over documents.

Symbols: n rows (tokens), y [n, d] what should be reconstructed (x itself, or what a transcoder should have written), f [n, m] latents, clusters the
documents that rows are from. Rows are read in batches and never copied as a whole, so they may be a view of what lies on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.firing_density import FiringDensity
from trialplate.metrics.jackknife import jackknife
from trialplate.metrics.reconstruction import Definition, Moments, ReconstructionSums
from trialplate.metrics.statistics import ratio_of_sums
from trialplate.sae.coder import Coder
from trialplate.sae.latents import Latents
from trialplate.sae.source import Source

EV_DEFINITION: Definition = "about_mean"
MOST_BLOCKS = 1024
"""Where no documents are given, rows are dealt into at most so many blocks of neighbours, which take their place."""
Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CoreScores:
    """The core numbers of a coder on n_tokens rows. Sums run over all rows, however they were dealt into batches.

    clusters   [G] rows of each document (or block); what intervals range over
    by_cluster {name: [G] sums}: squared_error, about_mean (|y - E y|^2), cosine, l2_in, l2_out, l2_ratio, square_out, dot, l0, l1, negative
    sums       the same over all rows, for explained variance by its other names (the batchwise ones see batches of the size asked for)
    firing     firings of every latent"""

    clusters: Matrix
    by_cluster: dict[str, Matrix]
    sums: ReconstructionSums
    firing: FiringDensity
    level: float = 0.95

    @property
    def n_tokens(self) -> int:
        """Rows that were read."""
        return self.sums.n_tokens

    @cached_property
    def ev(self) -> Estimate:
        """Explained variance about the mean, 1 - sum |y - y'|^2 / sum |y - E y|^2. At most 1; below 0 is worse than the mean. ValueError without variance."""
        self.sums.explained_variance(EV_DEFINITION)  # says in words what is wrong with rows that do not vary
        lost = ratio_of_sums(self.by_cluster["squared_error"], self.by_cluster["about_mean"], level=self.level)
        return _complement(lost)

    @cached_property
    def mse(self) -> Estimate:
        """Squared distance of a token, E|y - y'|^2; divided by d it is that of an element."""
        return self._mean("squared_error")

    @cached_property
    def l0(self) -> Estimate:
        """Latents of a token that are not zero, whatever their sign."""
        return self._mean("l0")

    @cached_property
    def l1(self) -> Estimate:
        """Sum of the sizes |f_j| of a token."""
        return self._mean("l1")

    @cached_property
    def cosine(self) -> Estimate:
        """Mean cosine of y and y'; zero vectors count as 0."""
        return self._mean("cosine")

    @cached_property
    def l2_in(self) -> Estimate:
        """E|y|."""
        return self._mean("l2_in")

    @cached_property
    def l2_out(self) -> Estimate:
        """E|y'|."""
        return self._mean("l2_out")

    @cached_property
    def l2_ratio(self) -> Estimate:
        """E of |y'| / |y|: below 1 is shrinkage."""
        return self._mean("l2_ratio")

    @cached_property
    def bias(self) -> Estimate | None:
        """Relative reconstruction bias E|y'|^2 / E<y, y'>: 1 is unbiased. None where reconstructions have nothing in common with y."""
        if self.sums.terms["dot"] == 0:
            return None
        pair = np.stack([self.by_cluster["square_out"], self.by_cluster["dot"]], axis=1)
        return jackknife(pair, lambda s: s[..., 0] / s[..., 1], level=self.level, name="reconstruction bias")

    @cached_property
    def neg_latent_frac(self) -> Estimate | None:
        """Share of the active latents that are negative, which a reader who sorts by size does not see. None where nothing is active."""
        if not self.by_cluster["l0"].any():
            return None
        return ratio_of_sums(self.by_cluster["negative"], self.by_cluster["l0"], level=self.level)

    @property
    def density(self) -> Matrix:
        """[m] share of the rows on which each latent is not zero."""
        return self.firing.values

    @property
    def alive_frac(self) -> float:
        """Share of latents that fired at least once in n_tokens rows."""
        return self.firing.alive_frac

    @property
    def dead_frac(self) -> float:
        """Share of latents that never fired in n_tokens rows."""
        return self.firing.dead_frac

    @property
    def frac_above_1pct(self) -> float:
        """Share of latents that fire on more than 1 % of the rows."""
        return self.firing.share_above(0.01)

    @property
    def frac_above_10pct(self) -> float:
        """Share of latents that fire on more than 10 % of the rows."""
        return self.firing.share_above(0.1)

    def estimates(self) -> dict[str, Estimate]:
        """Everything that has an interval, by name; what is undefined here is left out."""
        names = ("ev", "mse", "l0", "l1", "cosine", "l2_in", "l2_out", "l2_ratio", "bias", "neg_latent_frac")
        return {name: found for name in names if (found := getattr(self, name)) is not None}

    def _mean(self, name: str) -> Estimate:
        return ratio_of_sums(self.by_cluster[name], self.clusters, level=self.level)


@torch.inference_mode()
def core_scores(
    coder: Coder,
    x: Float[Tensor, "n d_in"] | Source,
    y: Float[Tensor, "n d_out"] | None = None,
    *,
    clusters: ArrayLike | None = None,
    batch: int = 4096,
    level: float = 0.95,
) -> CoreScores:
    """Core numbers on rows, with the coder as it is at inference. Rows are read twice: their mean first, then everything else.

    x, y      rows in memory, and what a transcoder should have written for each (None: x itself); or a source, which has both and its documents
    clusters  [n] the document of every row: rows of a document resemble each other, and intervals that ignore it are too narrow.
              None: the documents of the source; where there are none, blocks of neighbouring rows, right for rows in random order
    batch     rows encoded at once

    Raises ValueError for no rows, rows that do not pair or are not finite, a transcoder without y; CoderError for rows of another width."""
    rows = Pairs.of(x, y)
    if coder.config.is_transcoder and not rows.is_paired:
        raise ValueError(
            f"this coder reads {coder.config.site_in or 'one site'} and writes {coder.config.site_out or 'another'}: "
            "wanted y, what it should have written"
        )
    codes, sizes = _clusters(rows.documents if clusters is None else clusters, rows.n)
    centre = target_mean(rows, batch).to(coder.W_dec.device)
    sums, fired = ReconstructionSums(), np.zeros(coder.config.d_sae, np.int64)
    totals: dict[str, Matrix] = {}
    for part, wanted, latents, made in passes(coder, rows, batch):
        terms = sums.update(wanted, made)
        terms["about_mean"] = (wanted.double() - centre).square_().sum(1)
        terms |= _code_terms(latents)
        fired += latents.firings().cpu().numpy()
        for name, term in terms.items():
            found = np.bincount(codes[part], weights=term.cpu().numpy(), minlength=len(sizes))
            totals[name] = totals.get(name, np.zeros(len(sizes))) + found
    return CoreScores(sizes, totals, sums, FiringDensity(fired, rows.n), level)


@dataclass(frozen=True)
class Pairs:
    """n rows of x and y, read slice by slice; y is the same tensor as x where it is nothing else."""

    n: int
    is_paired: bool
    read: Callable[[int, int], tuple[Tensor, Tensor]]
    documents: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor | Source, y: Tensor | None = None) -> Pairs:
        """Of tensors, or of a source. ValueError for no rows, numbers of rows that differ, a source beside a y."""
        if not isinstance(x, Tensor):
            if y is not None:
                raise ValueError("a source has its own targets; build it with both sites instead of giving y")
            found = cls(x.n_rows, x.is_paired, lambda low, high: x.rows(torch.arange(low, high)), x.documents)
        else:
            if y is not None and len(y) != len(x):
                raise ValueError(f"every row that is read has one to be written, got {len(x)} and {len(y)} rows")
            targets = x if y is None else y
            found = cls(len(x), y is not None, lambda low, high: (x[low:high], targets[low:high]))
        if not found.n:
            raise ValueError("no rows to judge a coder by; wanted held-out activations [n, d_in]")
        return found


def passes(coder: Coder, rows: Pairs, batch: int = 4096) -> Iterator[tuple[slice, Tensor, Latents, Tensor]]:
    """(which rows, y [b, d_out], latents, y' [b, d_out]) of one batch after the other, on the coder's device and in its dtype."""
    for part in _slices(rows.n, batch):
        x, y = (found.to(coder.W_dec) for found in rows.read(part.start, part.stop))
        latents = coder.encode(x)
        yield part, y, latents, coder.decode(latents, x)


def _slices(n: int, batch: int) -> list[slice]:
    if batch < 1:
        raise ValueError(f"a batch holds at least one row, got batch={batch}")
    return [slice(start, min(start + batch, n)) for start in range(0, n, batch)]


def _clusters(labels: ArrayLike | None, n: int) -> tuple[NDArray[np.intp], Matrix]:
    """The cluster of every row as 0 .. G-1, and rows of each."""
    if labels is None:
        blocks = min(n, MOST_BLOCKS)
        codes = np.arange(n) * blocks // n
    else:
        given = np.asarray(labels)
        if given.shape != (n,):
            raise ValueError(f"wanted the document of each of {n} rows, got labels of shape {given.shape}")
        codes = np.unique(given, return_inverse=True)[1]
    return codes, np.bincount(codes).astype(np.float64)


def target_mean(rows: Pairs, batch: int = 4096) -> Tensor:
    """E y in float64, [d_out]."""
    parts = (Moments.of(rows.read(part.start, part.stop)[1].double()) for part in _slices(rows.n, batch))
    return reduce(Moments.merged, parts).mean


def _code_terms(latents: Latents) -> dict[str, Tensor]:
    """L0, L1 and negative latents of every token."""
    none = torch.zeros(len(latents), dtype=torch.float64, device=latents.value.device)
    rows, value = latents.rows, latents.value.double()
    return {
        "l0": latents.active().double(),
        "l1": none.index_add(0, rows, value.abs()),
        "negative": none.index_add(0, rows, (value < 0).double()),
    }


def _complement(share: Estimate) -> Estimate:
    """1 - an estimate."""
    ci = None if share.ci is None else (1 - share.ci[1], 1 - share.ci[0])
    return Estimate(1 - share.value, share.n, share.stderr, ci, share.level, f"1 - {share.method}")
