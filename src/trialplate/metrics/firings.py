"""Firings of units, counted by cluster and task: the table behind specialization and selectivity, and its two kinds of chance.

Symbols: c = clusters (documents, or blocks of documents of one task), d = units, K = tasks; f_ci = tokens of cluster c that made
unit i fire, t_c = tokens of cluster c, N_k = tokens of task k, C_k = clusters of task k. A rate is firings by tokens.

Tokens of a document depend on each other, so chance moves whole clusters. `relabelled` deals the task labels anew (what would no
task look like?), `redrawn` draws clusters within each task with replacement (what would other documents of these tasks show?).

Documents of different tasks have different lengths, and a rate over few tokens is noisier. If clusters carried their tokens through a
relabelling, the tasks of long documents would lend their precision to those of short ones, and the noise of the short ones would
look like specialization. In a relabelled table a cluster therefore counts relative to the mean cluster of its own task: with
m_k = N_k / C_k it enters with f_ci / m_k firings and t_c / m_k tokens. The rates as measured do not change by that. If all tasks
have the same lengths this is the plain permutation; if all have as many clusters, the sum over tasks of the variances of the rates
is kept whatever the lengths. Tasks of few and long documents beside tasks of many and short ones get a null that is too wide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.estimate import Estimate

Matrix = NDArray[np.float64]
Labels = NDArray[np.intp]
_AT_ONCE = 2_000_000  # numbers in one array: 16 MB


class NothingToScore(ValueError):
    """No unit of the table fired often enough to be judged: the result is undefined, which is not the same as 0."""


@dataclass(frozen=True, eq=False)
class Firings:
    """A checked table. Build it with `Firings.of`.

    fires:  [c, d] counts, in the type that was given; tokens: [c], at least 1 each; tasks: [c] labels 0 .. K-1, each present."""

    fires: NDArray[Any]
    tokens: Matrix
    tasks: Labels

    @classmethod
    def of(cls, fires: ArrayLike, tokens: ArrayLike, tasks: ArrayLike) -> Firings:
        """The table of three arrays. ValueError for shapes that do not fit, counts that are no counts, fewer than 2 tasks, a task left out."""
        counts, sizes, labels = np.asarray(fires), np.asarray(tokens, dtype=np.float64), np.asarray(tasks)
        if counts.ndim != 2 or counts.size == 0 or sizes.shape != counts.shape[:1] or labels.shape != counts.shape[:1]:
            raise ValueError(
                f"firings are [clusters, units] with one size and one task a cluster, none of them empty; got fires {counts.shape}, "
                f"tokens {sizes.shape}, tasks {labels.shape}"
            )
        _refuse_no_counts("tokens", sizes)
        _refuse_no_counts("fires", counts)
        if sizes.min() < 1:
            raise ValueError(f"a cluster holds at least one token, got 0 at index {int(sizes.argmin())}; leave it out")
        above = counts > sizes[:, None]
        if above.any():
            c, i = np.argwhere(above)[0].tolist()
            raise ValueError(
                f"a unit fires at most once a token, got {counts[c, i]} firings on {sizes[c]:.0f} tokens (cluster {c}, unit {i}); "
                f"are fires counted over the same tokens?"
            )
        return cls(counts, sizes, _labels(labels))

    @property
    def n_tasks(self) -> int:
        return int(self.tasks.max()) + 1

    @property
    def clusters(self) -> Matrix:
        """C_k [K]."""
        return np.bincount(self.tasks).astype(np.float64)

    @property
    def task_tokens(self) -> Matrix:
        """N_k [K]."""
        return np.bincount(self.tasks, weights=self.tokens).astype(np.float64)

    @property
    def mean_tokens(self) -> Matrix:
        """m_k = N_k / C_k, tokens of the mean cluster of each task [K]."""
        return self.task_tokens / self.clusters

    def firings(self) -> Matrix:
        """n_i [d]: how often each unit fired in all."""
        return self.fires.sum(axis=0, dtype=np.float64)

    def pooled_rates(self) -> Matrix:
        """r_i [d] = firings of unit i / all tokens."""
        return self.firings() / self.tokens.sum()

    def rates(self, units: slice | Labels = slice(None)) -> Matrix:
        """r_ki [K, units] = firings of unit i in task k / N_k; in [0, 1]."""
        counts = self.fires[:, units].astype(np.float64)
        return one_hot(self.tasks, self.n_tasks) @ counts / self.task_tokens[:, None]

    def relative(self, units: slice | Labels) -> tuple[Matrix, Matrix]:
        """(f_ci / m_k [c, units], t_c / m_k [c]): what a cluster brings into a relabelled table."""
        mean = self.mean_tokens[self.tasks]
        return self.fires[:, units] / mean[:, None], self.tokens / mean

    def relabelled(self, permutations: int, rng: np.random.Generator) -> Labels:
        """[permutations, c]: the task labels dealt anew to the clusters; every task keeps its number of clusters."""
        if permutations < 2:
            raise ValueError(f"a null needs at least 2 permutations, got {permutations}; 200 is usual")
        return rng.permuted(np.broadcast_to(self.tasks, (permutations, self.tasks.size)), axis=1)

    def redrawn(self, draws: int, rng: np.random.Generator) -> Matrix:
        """[draws, c]: how often each cluster is drawn when each task draws C_k of its own clusters with replacement."""
        if draws < 2:
            raise ValueError(f"a bootstrap needs at least 2 draws, got {draws}; 1000 is usual for an interval")
        times = np.empty((draws, self.tasks.size))
        for task in range(self.n_tasks):
            mine = np.flatnonzero(self.tasks == task)
            cells = rng.integers(0, mine.size, (draws, mine.size)) + mine.size * np.arange(draws)[:, None]
            times[:, mine] = np.bincount(cells.ravel(), minlength=draws * mine.size).reshape(draws, mine.size)
        return times


def blocks(units: Labels) -> Iterator[Labels]:
    """The units in blocks of at most 512, so that work by unit and draw stays small."""
    yield from (units[start : start + 512] for start in range(0, units.size, 512))


def task_rates(fires: ArrayLike, tokens: ArrayLike, tasks: ArrayLike) -> Matrix:
    """Firing rate of each unit in each task, [K, d], from fires [c, d], tokens [c] and task labels [c]: sums by sums, in [0, 1].

    Raises ValueError as `Firings.of`."""
    return Firings.of(fires, tokens, tasks).rates()


def one_hot(labels: Labels, n_tasks: int) -> Matrix:
    """[..., c] labels as [..., K, c] zeros and ones: times a [c, d] table this sums over the clusters of each task."""
    return (labels[..., None, :] == np.arange(n_tasks)[:, None]).astype(np.float64)


def slices(n: int, width: int) -> Iterator[slice]:
    """Consecutive slices of 0 .. n so that arrays of `width` numbers an item stay small."""
    step = max(1, _AT_ONCE // max(1, width))
    yield from (slice(start, min(start + step, n)) for start in range(0, n, step))


def check_level(level: float) -> None:
    """ValueError for a level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, got {level}; 95 % is 0.95")


def central(values: Matrix, level: float) -> tuple[float, float]:
    """The central `level` of the values: (low, high) percentiles."""
    check_level(level)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def of_permutations(values: Matrix, n: int, level: float) -> Estimate:
    """The null from its values, one a permutation: their mean, their standard deviation and their central `level`; n = clusters."""
    ends = central(values, level)
    method = f"{values.size} permutations of cluster labels"
    return Estimate(float(values.mean()), n, float(values.std(ddof=1)), ends, level, method)


def _refuse_no_counts(name: str, array: NDArray[Any]) -> None:
    """Counts are finite whole numbers, none negative."""
    if array.dtype.kind in "bu":
        return
    if array.dtype.kind not in "if":
        raise ValueError(f"{name} holds counts, got an array of {array.dtype}")
    wrong = array < 0 if array.dtype.kind == "i" else ~((array >= 0) & (array == np.floor(array)) & np.isfinite(array))
    if wrong.any():
        first = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"{name} holds counts, finite whole numbers from 0; {int(wrong.sum())} of {array.size} are not, "
            f"first {array[tuple(first)]} at index {first[0] if len(first) == 1 else first}"
        )


def _labels(labels: NDArray[Any]) -> Labels:
    if labels.dtype.kind not in "iu":
        raise ValueError(f"tasks are integer labels 0 .. K-1, got an array of {labels.dtype}; number the tasks first")
    present = np.unique(labels)
    if present.size < 2 or present[0] != 0 or present[-1] != present.size - 1:
        raise ValueError(
            f"tasks are labels 0 .. K-1, at least 2 tasks, each with a cluster; got the labels {present[:10].tolist()}"
        )
    return labels.astype(np.intp)
