"""Contrast of stories: do a few latents tell two stories about one subject apart? Scores of CE-Bench, with their bound and their null.

Symbols: r pairs of stories about one subject with opposed framing, m latents. V1, V2 [r, m]: means of the latents over the tokens of each story;
I1 = (n1 V1 + n2 V2) / (n1 + n2), the mean over the tokens of both; I2 [m] = mean of I1 over all pairs. z standardises a vector over its
latents: (v_j - mean_j v) / std_j v, with m - 1 in the standard deviation, which counts as 1 where it is 0. Per pair

    contrast C = max_j z(|V1 - V2|)_j     independence I = max_j z(|I1 - I2|)_j     interpretability = max_j z(|V1 - V2| + |I1 - I2|)_j

and the scores of a coder are means over pairs (paper: arXiv:2509.00691; there the score of a coder is C + I, or C + I - alpha S with S its
sparsity). In the code released with it I2 adds itself to itself and stays 0: mode "released" is that, mode "paper" the definition above. Every result
says its mode; numbers published by running the released code compare with "released" only.

The largest of m standardised numbers is at most (m - 1) / sqrt(m), which one active latent alone reaches: 31 for m = 1,024, 181 for 32,768. Scores
of two widths therefore do not compare; score / sqrt(m) does, roughly, and a threshold above the bound is refused (`require_attainable`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.firings import central, slices
from trialplate.metrics.statistics import clustered_mean, paired_difference

Matrix = NDArray[np.float64]
Mode = Literal["paper", "released"]
Measure = Literal["contrastive", "independent", "interpretability"]
MEASURES: tuple[Measure, ...] = ("contrastive", "independent", "interpretability")
"""C, I and interpretability, under the names of the released results."""


@dataclass(frozen=True, eq=False, slots=True)
class Stories:
    """What a coder made of pairs of stories: first, second [r, m] means over tokens; n_first, n_second [r] tokens; subjects [r].

    ValueError for shapes that do not fit, fewer than 2 latents, means that are not finite, or a story without tokens."""

    first: NDArray[Any]
    second: NDArray[Any]
    n_first: NDArray[Any]
    n_second: NDArray[Any]
    subjects: tuple[str, ...]

    def __post_init__(self) -> None:
        r = len(self.subjects)
        shapes = [np.shape(a) for a in (self.first, self.second, self.n_first, self.n_second)]
        if (
            r == 0
            or len(shapes[0]) != 2
            or shapes[0][1] < 2
            or shapes != [shapes[0]] * 2 + [(r,)] * 2
            or shapes[0][0] != r
        ):
            raise ValueError(
                f"pairs of stories are first, second [r, m > 1], n_first, n_second [r] and r subjects; got {shapes} and {r} subjects"
            )
        if not (np.isfinite(self.first).all() and np.isfinite(self.second).all()):
            raise ValueError("means of latents are not all finite; find the story that made it, do not drop it")
        if np.min(self.n_first) < 1 or np.min(self.n_second) < 1:
            raise ValueError("a story without tokens has no mean; leave its pair out")

    @property
    def n_latents(self) -> int:
        """m."""
        return int(self.first.shape[1])

    def part(self, some: slice) -> Stories:
        """Some of the pairs."""
        first, second, n_first, n_second = (a[some] for a in (self.first, self.second, self.n_first, self.n_second))
        return Stories(first, second, n_first, n_second, self.subjects[some])

    def pooled(self) -> Matrix:
        """I1 [r, m]."""
        one, two = (
            np.asarray(self.n_first, dtype=np.float64)[:, None],
            np.asarray(self.n_second, dtype=np.float64)[:, None],
        )
        return (one * self.first + two * self.second) / (one + two)


@dataclass(frozen=True, eq=False, slots=True)
class Contrastive:
    """Scores of a coder. values: by measure one a pair, [r]; subjects: of the pairs; n_latents: m; mode: see above."""

    values: Mapping[Measure, Matrix]
    subjects: tuple[str, ...]
    n_latents: int
    mode: Mode

    def score(self, measure: Measure) -> Estimate:
        """Mean over pairs, clustered by subject; between 0 and `bound(m)`, higher is better at one width."""
        return clustered_mean(self.values[measure], self.subjects)

    def per_root(self, measure: Measure) -> Estimate:
        """score / sqrt(m), below 1 at any width."""
        return clustered_mean(self.values[measure] / math.sqrt(self.n_latents), self.subjects)

    def combined(self, alpha: float = 0.0, sparsity: float = 0.0) -> float:
        """C + I - alpha S: the score of the paper; alpha 0 without its tuned penalty on sparsity."""
        return self.score("contrastive").value + self.score("independent").value - alpha * sparsity

    def results(self, sae_config: Mapping[str, Any], sae_release: str, sae_id: str) -> dict[str, Any]:
        """The entries of CE-Bench's results.json, and beside them the mode, the width and the bound, without which they say nothing."""
        means: dict[str, Any] = {f"{name}_score_mean": self.score(name).value for name in MEASURES}
        about = {
            "total_rows": len(self.subjects),
            "sae_config": dict(sae_config),
            "sae_release": sae_release,
            "sae_id": sae_id,
        }
        return (
            means | about | {"mode": self.mode, "n_latents": self.n_latents, "attainable_score": bound(self.n_latents)}
        )


@dataclass(frozen=True, eq=False, slots=True)
class Responsible:
    """Per latent: the subject to which it responds most, [m] indices into `subjects`, its mean score there, and its margin over the runner-up."""

    subjects: tuple[str, ...]
    subject: NDArray[np.intp]
    value: Matrix
    margin: Matrix


def bound(n_latents: int) -> float:
    """(m - 1) / sqrt(m): the largest score that m latents can have; a one-hot vector has it. ValueError for m < 2."""
    if n_latents < 2:
        raise ValueError(f"a score over latents wants at least 2 of them, got {n_latents}")
    return (n_latents - 1) / math.sqrt(n_latents)


def require_attainable(threshold: float, n_latents: int) -> None:
    """ValueError for a threshold that no coder of this width can reach, or that is no number."""
    most = bound(n_latents)
    if not threshold <= most:
        least = math.ceil(((threshold + math.sqrt(threshold**2 + 4)) / 2) ** 2) if math.isfinite(threshold) else None
        wider = f"; it takes {least:,} latents" if least else ""
        raise ValueError(
            f"a threshold of {threshold:g} cannot be reached: with {n_latents:,} latents the largest score is {most:.4g}{wider}. "
            "Ask for score / sqrt(m), or compare with a coder of the same width"
        )


def standardised(values: ArrayLike) -> Matrix:
    """z of every row over its m columns; 0 where all are equal. [r, m]"""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    spread = rows.std(axis=1, ddof=1, keepdims=True)
    moves = spread > 1e-12 * np.abs(rows).max(
        axis=1, keepdims=True
    )  # the mean of equal numbers may round, which is no spread
    return np.where(moves, (rows - rows.mean(axis=1, keepdims=True)) / np.where(moves, spread, 1.0), 0.0)


def contrastive(stories: Stories, mode: Mode = "paper") -> Contrastive:
    """The three scores of every pair."""
    return Contrastive(_largest(stories, mode), stories.subjects, stories.n_latents, _known(mode))


def difference(first: Contrastive, second: Contrastive, measure: Measure) -> Estimate:
    """First minus second on the same pairs, clustered by subject. ValueError for two widths, two modes or other pairs: those do not compare."""
    mine, other = ((c.n_latents, c.mode, c.subjects) for c in (first, second))
    if mine != other:
        raise ValueError(
            f"scores compare at one width, in one mode and on the same pairs; got {mine[0]} and {other[0]} latents, modes {mine[1]} and {other[1]}, "
            f"{len(mine[2])} and {len(other[2])} pairs. Take a baseline coder of the same width"
        )
    return paired_difference(first.values[measure], second.values[measure], clusters=first.subjects)


def permuted_null(
    stories: Stories, rng: np.random.Generator, mode: Mode = "paper", permutations: int = 20, *, level: float = 0.95
) -> dict[Measure, Estimate]:
    """The scores where every first story meets a second story about another subject: what any two texts show, framing apart.

    Mean over permutations, their standard deviation, their central `level`; n = pairs. Stories of two subjects differ by subject too, so that a
    score below its null is no mistake: then the latents tell subjects apart better than framings. ValueError for one subject, for one that has
    more than half of the pairs, and for fewer than 2 permutations."""
    if permutations < 2:
        raise ValueError(f"a null needs at least 2 permutations, got {permutations}; 20 is usual")
    found: list[list[float]] = []
    for _ in range(permutations):
        other = _elsewhere(stories.subjects, rng)
        mixed = Stories(
            stories.first, stories.second[other], stories.n_first, stories.n_second[other], stories.subjects
        )
        values = _largest(mixed, mode)
        found.append([float(values[name].mean()) for name in MEASURES])
    drawn, n = np.array(found), len(stories.subjects)
    method = f"{permutations} permutations of stories across subjects"
    return {
        name: Estimate(float(column.mean()), n, float(column.std(ddof=1)), central(column, level), level, method)
        for name, column in zip(MEASURES, drawn.T, strict=True)
    }


def responsible(stories: Stories, mode: Mode = "paper") -> Responsible:
    """The subject of highest mean z(|V1 - V2| + |I1 - I2|)_j for every latent. ValueError for fewer than two subjects: there is no runner-up."""
    names = tuple(dict.fromkeys(stories.subjects))
    if len(names) < 2:
        raise ValueError(
            f"a latent responds to one subject rather than another; wanted at least two, got {list(names)}"
        )
    number = np.array([names.index(subject) for subject in stories.subjects])
    middle = _middle(stories, mode)
    sums = np.zeros((len(names), stories.n_latents))
    for some in slices(len(number), stories.n_latents):
        np.add.at(sums, number[some], standardised(_together(stories, some, middle)[2]))
    means = sums / np.bincount(number)[:, None]
    ordered = np.partition(means, len(names) - 2, axis=0)
    return Responsible(names, means.argmax(axis=0), ordered[-1], ordered[-1] - ordered[-2])


def _largest(stories: Stories, mode: Mode) -> dict[Measure, Matrix]:
    middle, r = _middle(stories, mode), len(stories.subjects)
    found = {name: np.empty(r) for name in MEASURES}
    for some in slices(r, stories.n_latents):
        for name, vectors in zip(MEASURES, _together(stories, some, middle), strict=True):
            found[name][some] = standardised(vectors).max(axis=1)
    return found


def _together(stories: Stories, some: slice, middle: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """|V1 - V2|, |I1 - I2| and their sum for some pairs."""
    part = stories.part(some)
    apart = np.abs(part.first.astype(np.float64) - part.second)
    off = np.abs(part.pooled() - middle)
    return apart, off, apart + off


def _middle(stories: Stories, mode: Mode) -> Matrix:
    """I2 [m]."""
    if _known(mode) == "released":
        return np.zeros(stories.n_latents)
    total = np.zeros(stories.n_latents)
    for some in slices(len(stories.subjects), stories.n_latents):
        total += stories.part(some).pooled().sum(axis=0)
    return total / len(stories.subjects)


def _known(mode: Mode) -> Mode:
    if mode not in ("paper", "released"):
        raise ValueError(f"the mode is 'paper' or 'released', got {mode!r}")
    return mode


def _elsewhere(subjects: Sequence[str], rng: np.random.Generator) -> NDArray[np.intp]:
    """A random permutation that leaves no pair its subject: pairs lie in a circle, grouped by subject, and are turned by more than any group."""
    names = sorted(set(subjects))
    place = dict(zip(names, rng.permutation(len(names)).tolist(), strict=True))
    groups = np.array([place[subject] for subject in subjects])
    n, most = groups.size, int(np.bincount(groups).max())
    if 2 * most > n:
        raise ValueError(
            f"a null pairs stories of different subjects, and one subject has {most} of {n} pairs; wanted at most half in one subject"
        )
    circle = np.lexsort((rng.random(n), groups))
    found = np.empty(n, dtype=np.intp)
    found[circle] = np.roll(circle, -int(rng.integers(most, n - most + 1)))
    return found
