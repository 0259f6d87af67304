"""Units as detectors of a task: how well the size of an activation, without any threshold, tells tokens of the task from others.

Symbols: n = tokens, d = units, K = tasks; P = tokens of the task, N = the others. Both measures go down the scores of a unit from high to low;
tokens of equal score are one step, so that nothing depends on the order of the rows (most activations of a sparse unit are 0).

Tokens of one document depend on each other: the value is right, but its uncertainty comes from documents, not from n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
_AT_ONCE = 1_000_000  # scores sorted at once: about 100 MB with their orders and counts


def auroc(values: ArrayLike, is_task: ArrayLike) -> Matrix:
    """Probability that a token of the task has a larger value than another token, ties counting half (Mann and Whitney 1947).

    values: [n, d], any real type; is_task: [n] booleans, or [n, K] for K tasks against the rest each. Returns [d], or [K, d].
    In [0, 1]; 0.5 for a unit that tells nothing, below for one that is lower in the task. (sum of mid-ranks in the task - P (P+1) / 2) / (P N).
    Raises ValueError for values that are not finite, and for a task with no token or with all."""
    return _sweep(_trapezoids, values, is_task)


def average_precision(values: ArrayLike, is_task: ArrayLike) -> Matrix:
    """Area under precision against recall as a sum of steps: sum over thresholds of (recall gained) * (precision there).

    Arguments, shapes and errors as `auroc`. In (0, 1]; 1 if every token of the task lies above every other one; P / n, the prevalence,
    for a unit whose values are all equal, and on average about that for values without relation to the task. Not interpolated."""
    return _sweep(_steps, values, is_task)


Measure = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]], Matrix]


def _sweep(measure: Measure, values: ArrayLike, is_task: ArrayLike) -> Matrix:
    scores, labels = np.asarray(values), np.asarray(is_task)
    _check(scores, labels)
    n, d = scores.shape
    tasks = labels.reshape(n, -1).T  # [K, n]
    result = np.empty((len(tasks), d))
    step = max(1, _AT_ONCE // n)
    for start in range(0, d, step):
        some = np.ascontiguousarray(scores[:, start : start + step].T)  # [units, n]
        order = np.argsort(some, axis=1)[:, ::-1]
        ordered = np.take_along_axis(some, order, axis=1)
        last = np.ones(ordered.shape, dtype=np.bool_)  # the last token of its score
        last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
        seen = np.arange(1, n + 1)
        for row, task in zip(result, tasks, strict=True):
            hits = np.cumsum(task[order], axis=1, dtype=np.int64)
            row[start : start + step] = measure(hits, seen - hits, last)
    return result if labels.ndim == 2 else result[0]


def _trapezoids(hits: NDArray[np.int64], misses: NDArray[np.int64], last: NDArray[np.bool_]) -> Matrix:
    """sum over steps of (misses gained) * (hits before + hits after) / 2, by P N; whole numbers up to the division."""
    hits_before, misses_before = _before(hits, last), _before(misses, last)
    twice = np.where(last, (misses - misses_before) * (hits + hits_before), 0).sum(axis=1)
    return twice / (2.0 * hits[:, -1] * misses[:, -1])


def _steps(hits: NDArray[np.int64], misses: NDArray[np.int64], last: NDArray[np.bool_]) -> Matrix:
    gained = np.where(last, hits - _before(hits, last), 0)
    return (gained * (hits / (hits + misses))).sum(axis=1) / hits[:, -1]


def _before(counts: NDArray[np.int64], last: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The count at the end of the step before, at every token. Counts never fall, so a running maximum carries it on."""
    before = np.zeros_like(counts)
    before[:, 1:] = np.maximum.accumulate(np.where(last, counts, 0), axis=1)[:, :-1]
    return before


def _check(scores: NDArray[Any], labels: NDArray[Any]) -> None:
    if scores.ndim != 2 or scores.size == 0 or labels.ndim not in (1, 2) or labels.shape[0] != scores.shape[0]:
        raise ValueError(
            f"detection wants values [n, units], none empty, with labels [n] or [n, tasks]; got {scores.shape} and {labels.shape}"
        )
    if labels.dtype != np.bool_:
        raise ValueError(
            f"is_task says true or false for each token, got an array of {labels.dtype}; compare: tasks == k"
        )
    if scores.dtype.kind not in "biuf" or not np.isfinite(scores).all():
        raise ValueError(
            "values are finite real numbers; an activation that is not has no rank, find the token that made it"
        )
    counts = labels.reshape(len(labels), -1).sum(axis=0)
    if not ((counts > 0) & (counts < len(labels))).all():
        task = int(np.argmax((counts == 0) | (counts == len(labels))))
        raise ValueError(
            f"a detector tells tokens of the task from others: both are needed, column {task} has {counts[task]} of {len(labels)}"
        )
