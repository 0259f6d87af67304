"""How well a model predicts text: bits a byte and perplexities, from one log-likelihood (nats, <= 0) and one size a document.

Sums are divided by sums, never averaged as ratios: a long document counts for its length. n = documents; a single document has
no standard error. Bits a byte compare across tokenizers; perplexity a token compares only within one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trialplate.metrics.estimate import Estimate
from trialplate.metrics.statistics import exp_mean, exponential, ratio_of_sums

_ROUNDING = 1e-3  # nats: a sum of float32 log-softmax values near 0 may end slightly above it


def bits_per_byte(logprobs: ArrayLike, n_bytes: ArrayLike, *, level: float = 0.95) -> Estimate:
    """-sum(logprobs) / (ln 2 * sum(n_bytes)), bytes of UTF-8. Lower is better; 8 is a uniform model of bytes."""
    return ratio_of_sums(_surprise(logprobs), n_bytes, scale=1 / math.log(2), level=level)


def byte_perplexity(logprobs: ArrayLike, n_bytes: ArrayLike, *, level: float = 0.95) -> Estimate:
    """exp(-sum(logprobs) / sum(n_bytes)): 2 to the power of bits a byte. Lower is better, at least 1."""
    return exponential(ratio_of_sums(_surprise(logprobs), n_bytes, level=level))


def word_perplexity(logprobs: ArrayLike, n_words: ArrayLike, *, level: float = 0.95) -> Estimate:
    """exp(-sum(logprobs) / sum(n_words)). Lower is better. What counts as a word is the caller's and belongs into the report."""
    return exponential(ratio_of_sums(_surprise(logprobs), n_words, level=level))


def token_perplexity(logprobs: ArrayLike, n_tokens: ArrayLike, *, level: float = 0.95) -> Estimate:
    """exp(-sum(logprobs) / sum(n_tokens)). Lower is better; the size of the vocabulary for a uniform model."""
    return exponential(ratio_of_sums(_surprise(logprobs), n_tokens, level=level))


def target_perplexity(logprobs: ArrayLike, *, level: float = 0.95) -> Estimate:
    """exp(-mean(logprobs)), one summed log-likelihood an item: LAMBADA's perplexity, per target word however many tokens it has."""
    return exp_mean(_surprise(logprobs), level=level)


def uniform_bits_per_byte(n_tokens: ArrayLike, n_bytes: ArrayLike, vocab_size: int) -> float:
    """Bits a byte of a model that gives every token of its vocabulary the same probability: the null of `bits_per_byte`."""
    if vocab_size < 2:
        raise ValueError(f"a uniform model needs a vocabulary of at least 2 tokens, got {vocab_size}")
    return ratio_of_sums(n_tokens, n_bytes, scale=math.log2(vocab_size)).value


def _surprise(logprobs: ArrayLike) -> NDArray[np.float64]:
    """Negative log-likelihoods; refuses what cannot be a log-probability (a flipped sign would look like a superb model)."""
    vector = np.asarray(logprobs, dtype=np.float64)
    above = vector > _ROUNDING
    if above.any():
        first = int(np.argmax(above))
        raise ValueError(
            f"log-likelihoods are at most 0, got {vector.flat[first]} at index {first}; pass log P(text), not its negative"
        )
    return -np.minimum(vector, 0.0)
