"""A trigram model of tokens: what a text costs a reader that remembers two tokens. The null beside the bits per byte of a language model.

Interpolated Kneser-Ney (Kneser and Ney 1995; one discount an order, n1 / (n1 + 2 n2) as in Chen and Goodman 1999):
p(w | u v) = max(c(u v w) - D, 0) / c(u v .) + D N(u v .) / c(u v .) * p(w | v), where below the top order counts are of different
contexts, and the unigram is mixed with the uniform distribution. Symbols: V = vocabulary; tokens are integers below V."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HISTORY = 2


@dataclass(frozen=True, slots=True)
class _Order:
    """Counts of one order: sorted n-gram keys and counts; sorted context keys, their totals and how many words follow each."""

    keys: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    followers: np.ndarray
    discount: float


class Trigram:
    """A trigram model of documents, each begun by two `start` tokens, which are never predicted."""

    def __init__(self, documents: Sequence[Sequence[int]], vocabulary: int, start: int = 0) -> None:
        if not any(len(document) for document in documents):
            raise ValueError("a trigram model of no tokens is undefined: wanted at least one non-empty document")
        self.vocabulary, self.start = vocabulary, start
        top = _grams(documents, vocabulary, start)
        keys, counts = np.unique(top, return_counts=True)
        self._orders = []
        size = vocabulary**HISTORY
        for _ in range(HISTORY + 1):
            self._orders.append(_order(keys, counts, vocabulary))
            # Below the top an n-gram counts once for every different token before it.
            keys, counts = np.unique(keys % size, return_counts=True)
            size //= vocabulary

    def nats(self, document: Sequence[int]) -> float:
        """Total cross-entropy of a document in nats; 0 for an empty one."""
        if not len(document):
            return 0.0
        return float(-np.log(self.probabilities(document)).sum())

    def probabilities(self, document: Sequence[int]) -> np.ndarray:
        """p of each token after the two before it, [n]; each in (0, 1], and over the vocabulary they sum to 1."""
        grams = _grams([document], self.vocabulary, self.start)
        p = np.full(len(grams), 1.0 / self.vocabulary)
        for depth in range(HISTORY, -1, -1):
            p = _interpolated(self._orders[depth], grams % self.vocabulary ** (HISTORY + 1 - depth), self.vocabulary, p)
        return p


def _grams(documents: Sequence[Sequence[int]], vocabulary: int, start: int) -> np.ndarray:
    """Every token with the two before it, as one integer each."""
    if vocabulary ** (HISTORY + 1) >= 2**63:
        raise ValueError(
            f"a vocabulary of {vocabulary} does not fit: trigrams are packed into 63 bits, so at most {2**21 - 1}"
        )
    parts = []
    for document in documents:
        padded = np.concatenate([[start] * HISTORY, np.asarray(document, dtype=np.int64)]).astype(np.int64)
        if len(document) and (padded.min() < 0 or padded.max() >= vocabulary):
            raise ValueError(f"tokens are from 0 to {vocabulary - 1}, got {padded.min()} to {padded.max()}")
        parts.append((padded[:-2] * vocabulary + padded[1:-1]) * vocabulary + padded[2:])
    return np.concatenate(parts)


def _order(keys: np.ndarray, counts: np.ndarray, vocabulary: int) -> _Order:
    contexts, first = np.unique(keys // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, first)
    followers = np.diff(np.append(first, len(keys)))
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return _Order(keys, counts, contexts, totals, followers, once / (once + 2 * twice) if once else 0.5)


def _interpolated(order: _Order, grams: np.ndarray, vocabulary: int, below: np.ndarray) -> np.ndarray:
    count = _looked_up(order.keys, order.counts, grams)
    context = grams // vocabulary
    total, followers = (
        _looked_up(order.contexts, order.totals, context),
        _looked_up(order.contexts, order.followers, context),
    )
    seen = total > 0
    total = np.where(seen, total, 1)
    mixed = np.maximum(count - order.discount, 0) / total + order.discount * followers / total * below
    return np.where(seen, mixed, below)


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
