"""The trigram baseline: a distribution, by hand on a tiny text, and better the more the past says."""

import math

import numpy as np
import pytest

from trialplate.metrics.ngram import Trigram

pytestmark = pytest.mark.fast


def test_probabilities_sum_to_one():
    generator = np.random.default_rng(0)
    model = Trigram([generator.integers(1, 7, size=20).tolist() for _ in range(10)], vocabulary=7)
    for history in ([], [3], [3, 5], [6, 6], [0, 1, 2]):
        total = sum(model.probabilities([*history, word])[-1] for word in range(7))
        assert total == pytest.approx(1.0, abs=1e-12)


def test_by_hand():
    """One document "1 2": trigrams (0 0 1), (0 1 2), each once, so every discount is 1 and all mass goes to the order below."""
    model = Trigram([[1, 2]], vocabulary=4)
    assert model.probabilities([1]).tolist() == pytest.approx([0.25])
    # counts 2 and 1: D = 1/3. p(2 | 1 at the start) twice of three times, one other word once.
    model = Trigram([[1, 2], [1, 2], [1, 3]], vocabulary=4)
    top, bigram, unigram = 1 / (1 + 2 * 1), 1.0, 1.0
    assert top == pytest.approx(1 / 3)
    below = unigram * bigram * 0.25  # every lower count is 1: discounted away entirely
    expected = (2 - top) / 3 + top * 2 / 3 * below
    assert model.probabilities([1, 2])[1] == pytest.approx(expected)


def test_a_repeating_text_is_cheap_and_a_random_one_is_not():
    pattern = [1, 2, 3, 4] * 50
    model = Trigram([pattern], vocabulary=100)
    assert model.nats(pattern) / len(pattern) < 0.2
    noise = np.random.default_rng(1).integers(0, 100, 200).tolist()
    assert model.nats(noise) / len(noise) > math.log(20)
    assert model.nats([]) == 0.0


def test_wrong_input():
    with pytest.raises(ValueError, match="no tokens"):
        Trigram([[], []], vocabulary=5)
    with pytest.raises(ValueError, match="tokens are from 0 to 4"):
        Trigram([[7]], vocabulary=5)
    with pytest.raises(ValueError, match="packed into 63 bits"):
        Trigram([[7]], vocabulary=2**22)
