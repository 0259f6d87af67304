"""Credit for choosing by likelihood. A tie earns the share that a fair draw among the best would: a constant model scores chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


def best(scores: ArrayLike) -> tuple[int, ...]:
    """Indices of the highest score, more than one on an exact tie. Raises ValueError for no choices or a score that is NaN."""
    vector = np.asarray(scores, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"a question needs one score a choice and at least one choice, got shape {vector.shape}")
    if np.isnan(vector).any():
        raise ValueError(
            f"choice {int(np.argmax(np.isnan(vector)))} of {vector.size} scored NaN; no choice can be made"
        )
    return tuple(np.flatnonzero(vector == vector.max()).tolist())


def choice_credits(
    scores: Sequence[ArrayLike], gold: Sequence[int], lengths: Sequence[ArrayLike] | None = None
) -> Vector:
    """One credit in [0, 1] a question: 1 if the gold choice alone scores best, 1/k if it ties with k - 1 others, else 0.

    scores:  log-likelihoods of the choices, one row a question; rows may differ in length.
    gold:    index of the right choice.
    lengths: divides each score first (`acc_norm`; lm-evaluation-harness divides by characters of the choice without its space).
    The harness gives ties to the first choice; credits differ from it only there. Their mean is `statistics.proportion`."""
    if len(scores) != len(gold) or (lengths is not None and len(lengths) != len(scores)):
        raise ValueError(
            f"one row of scores and one gold index a question, got {len(scores)} rows, {len(gold)} gold"
            + ("" if lengths is None else f", {len(lengths)} rows of lengths")
        )
    rows = list(scores) if lengths is None else [per_length(*pair) for pair in zip(scores, lengths, strict=True)]
    return np.array([_credit(row, index, where) for where, (row, index) in enumerate(zip(rows, gold, strict=True))])


def per_length(scores: ArrayLike, lengths: ArrayLike) -> Vector:
    """Scores divided by the lengths of their choices; lengths are positive, in characters or bytes."""
    above, below = np.asarray(scores, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    if above.shape != below.shape:
        raise ValueError(f"one length a choice is needed, got {above.size} scores and {below.size} lengths")
    if (below <= 0).any():
        raise ValueError(
            f"choice {int(np.argmax(below <= 0))} is empty (length {below.min():g}); it cannot be normalised"
        )
    return above / below


def chance(n_choices: ArrayLike) -> float:
    """Expected accuracy of a blind draw: the mean of 1 / choices over the questions."""
    counts = np.asarray(n_choices, dtype=np.float64)
    if counts.size == 0 or (counts < 1).any():
        raise ValueError(f"chance needs questions with at least one choice each, got {counts.tolist()[:5]}")
    return float((1 / counts).mean())


def minimal_pair_credits(good: ArrayLike, bad: ArrayLike) -> Vector:
    """1 where log P(good) > log P(bad), 0.5 where they are equal, else 0. Chance is 0.5."""
    first, second = np.asarray(good, dtype=np.float64), np.asarray(bad, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"each good sentence has one bad twin, got shapes {first.shape} and {second.shape}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError(f"pair {int(np.argmax(np.isnan(first) | np.isnan(second)))} scored NaN; it has no preference")
    return np.where(first == second, 0.5, (first > second).astype(np.float64))


def margins(answers: ArrayLike, foils: Sequence[ArrayLike]) -> Vector:
    """log P(answer) - max log P(foil), in nats, one an item; positive where the answer wins. Foils are of the answer's kind."""
    right = np.asarray(answers, dtype=np.float64)
    if right.ndim != 1 or right.size != len(foils):
        raise ValueError(f"one row of foils an answer is needed, got {right.size} answers and {len(foils)} rows")
    empty = [index for index, row in enumerate(foils) if np.size(row) == 0]
    if empty:
        raise ValueError(f"{len(empty)} items have no foil, first item {empty[0]}; a margin needs something to beat")
    return right - np.array([np.max(np.asarray(row, dtype=np.float64)) for row in foils])


def _credit(row: ArrayLike, gold: int, where: int) -> float:
    n_choices = np.size(row)
    if not 0 <= gold < n_choices:
        raise ValueError(
            f"question {where} has {n_choices} choices, so gold {gold} is none of them; indices start at 0"
        )
    winners = best(row)
    return 1 / len(winners) if gold in winners else 0.0
