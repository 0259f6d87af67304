"""Coders of several seeds, ready to be compared: checked, without their dead latents, as a table of pairs and its chance level.

Symbols: n coders, each m latents of d channels, a latent a row; m_i of coder i are alive."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.cosines import Rows
from trialplate.metrics.decoder_similarity import (
    Statistic,
    chance_level,
    matched_cosine,
    mean_max_cosine,
    named_statistic,
)
from trialplate.metrics.estimate import Estimate
from trialplate.metrics.random_directions import gaussian_rows
from trialplate.metrics.statistics import mean

Matrix = NDArray[np.float64]
_WEIGHTED = {"mean_max_cosine": mean_max_cosine, "matched_cosine": matched_cosine}


@dataclass(frozen=True, slots=True, eq=False)
class CoderSet:
    """Rows [m_i, d] of every coder's alive latents, and their weights [m_i] where latents have any."""

    rows: list[Rows]
    weights: list[Matrix] | None

    @classmethod
    def of(
        cls,
        decoders: Sequence[Rows],
        alive: Sequence[ArrayLike] | None = None,
        weights: Sequence[ArrayLike] | None = None,
    ) -> CoderSet:
        """The coders without the latents that `alive` [m] bool leaves out.

        ValueError for no coder, unequal shapes, one decoder twice, vectors that are not [m], or a coder without alive latents."""
        m = _common_shape(decoders)[0]
        for name, given in (("alive", alive), ("weights", weights)):
            if given is not None and [np.shape(one) for one in given] != [(m,)] * len(decoders):
                raise ValueError(
                    f"{name} is one vector [{m}] for each of {len(decoders)} coders, got {[np.shape(one) for one in given]}"
                )
        kept = [np.arange(m)] * len(decoders) if alive is None else [_alive(mask, i) for i, mask in enumerate(alive)]
        rows = [decoder[chosen] for decoder, chosen in zip(decoders, kept, strict=True)]
        if weights is None:
            return cls(rows, None)
        masses = [np.asarray(mass, dtype=np.float64)[chosen] for mass, chosen in zip(weights, kept, strict=True)]
        return cls(rows, masses)

    def table(
        self, statistic: str | Statistic, *, absolute: bool = False, families: Sequence[Hashable] | None = None
    ) -> Matrix:
        """[n, n] similarity of every pair, symmetric, 1 on the diagonal.

        families: one label a coder; the table is then of families, in order of appearance, each entry the mean over pairs of their coders. Pairs
        within a family are not looked at."""
        measure = self._measure(statistic, absolute)
        labels = list(range(len(self.rows)) if families is None else families)
        if len(labels) != len(self.rows):
            raise ValueError(f"one family a coder is needed, got {len(labels)} for {len(self.rows)}")
        members = {label: [i for i, other in enumerate(labels) if other == label] for label in dict.fromkeys(labels)}
        table = np.eye(len(members))
        for (f, one), (g, two) in combinations(enumerate(members.values()), 2):
            table[f, g] = table[g, f] = np.mean([measure(i, j) for i in one for j in two])
        return table

    def chance(
        self, statistic: str | Statistic, rng: np.random.Generator, *, absolute: bool = False, draws: int = 10
    ) -> Estimate:
        """`chance_level` of the sizes that are compared: drawn once where all pairs have one, otherwise as often for each pair as gives `draws`."""
        d, sizes = self.rows[0].shape[1], list(combinations([len(rows) for rows in self.rows], 2))
        if len(set(sizes)) == 1:
            return chance_level(d, sizes[0], statistic, rng, absolute=absolute, draws=draws)
        if statistic == "mean_max_cosine":
            exact = [chance_level(d, size, statistic, rng, absolute=absolute) for size in sizes]
            value = float(np.mean([one.value for one in exact]))
            return Estimate(value, min(one.n for one in exact), 0.0, (value, value), method=exact[0].method)
        measure = named_statistic(statistic, absolute)
        pairs = sizes * math.ceil(draws / len(sizes))
        drawn = mean([measure(gaussian_rows(m_a, d, rng), gaussian_rows(m_b, d, rng)) for m_a, m_b in pairs])
        method = f"mean of {drawn.n} draws of Gaussian directions, as many as are alive in each pair, Student t"
        return Estimate(drawn.value, drawn.n, drawn.stderr, drawn.ci, drawn.level, method)

    def _measure(self, statistic: str | Statistic, absolute: bool) -> Callable[[int, int], float]:
        """Similarity of coders i and j."""
        weights = self.weights
        if weights is None:
            plain = named_statistic(statistic, absolute)
            return lambda i, j: plain(self.rows[i], self.rows[j])
        if not isinstance(statistic, str) or statistic not in _WEIGHTED:
            raise ValueError(
                f"weights are for {' and '.join(_WEIGHTED)}, got {statistic!r}; leave them out, or weigh in the function itself"
            )
        measure = partial(_WEIGHTED[statistic], absolute=absolute)
        return lambda i, j: measure(self.rows[i], self.rows[j], weights=(weights[i], weights[j]))


def _common_shape(decoders: Sequence[Rows]) -> tuple[int, int]:
    """(m, d) of all decoders; every two of them differ."""
    shapes = [tuple(decoder.shape) for decoder in decoders]
    if not shapes or len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"coders of several seeds have decoders of one shape [m, d], a latent a row; got {sorted(set(shapes)) or 'none'}. Nothing is transposed, "
            "and similarities of other shapes have other chance levels: compare their adjusted scores"
        )
    for i, j in combinations(range(len(decoders)), 2):
        if _equal(decoders[i], decoders[j]):
            raise ValueError(
                f"coders {i} and {j} have the same decoder, number by number: one coder counted twice is no second seed"
            )
    return shapes[0]


def _equal(one: Rows, two: Rows) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.device == two.device and bool(torch.equal(one, two))
    return bool(np.array_equal(np.asarray(one), np.asarray(two)))


def _alive(mask: ArrayLike, coder: int) -> NDArray[np.intp]:
    flags = np.asarray(mask)
    if flags.dtype != np.bool_:
        raise ValueError(
            f"alive latents are flags, bool [m]; coder {coder} has {flags.dtype}. Of firing counts take counts > 0"
        )
    kept = np.flatnonzero(flags)
    if not kept.size:
        raise ValueError(f"coder {coder} has no alive latent, so nothing of it can be stable; look at its training")
    return kept
