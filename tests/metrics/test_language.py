"""Bits a byte and perplexities on numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialplate.metrics.language import (
    bits_per_byte,
    byte_perplexity,
    target_perplexity,
    token_perplexity,
    uniform_bits_per_byte,
    word_perplexity,
)

LN2 = math.log(2)


def test_bits_per_byte_by_hand():
    estimate = bits_per_byte([-6 * LN2, -2 * LN2], [2, 2])  # 8 bits over 4 bytes
    assert (estimate.value, estimate.n) == (pytest.approx(2.0), 2)
    assert estimate.stderr == pytest.approx(1.0)  # residuals +2 and -2 bits: sqrt(2 * 8) / 4


def test_it_is_a_ratio_of_sums_and_not_a_mean_of_ratios():
    assert bits_per_byte([-8 * LN2, -1 * LN2], [1, 8]).value == pytest.approx(1.0)


def test_perplexities_by_hand():
    logprobs = [-math.log(8), -math.log(2)]
    assert word_perplexity(logprobs, [1, 1]).value == pytest.approx(4)
    assert token_perplexity(logprobs, [3, 1]).value == pytest.approx(2)
    assert byte_perplexity(logprobs, [2, 2]).value == pytest.approx(2)
    assert target_perplexity(logprobs).value == pytest.approx(4)


def test_byte_perplexity_is_two_to_the_bits():
    logprobs, sizes = [-5.0, -7.5, -1.0], [4, 9, 3]
    bits, perplexity = bits_per_byte(logprobs, sizes), byte_perplexity(logprobs, sizes)
    assert perplexity.value == pytest.approx(2**bits.value)
    assert perplexity.ci == pytest.approx((2 ** bits.ci[0], 2 ** bits.ci[1]))


def test_a_uniform_model_scores_its_null():
    n_tokens, n_bytes, vocab_size = np.array([10, 20]), np.array([40, 70]), 512
    logprobs = -n_tokens * math.log(vocab_size)
    assert bits_per_byte(logprobs, n_bytes).value == pytest.approx(uniform_bits_per_byte(n_tokens, n_bytes, vocab_size))
    assert token_perplexity(logprobs, n_tokens).value == pytest.approx(vocab_size)


def test_one_document_has_a_value_only():
    assert bits_per_byte([-3.0], [2]).ci is None


def test_a_flipped_sign_is_refused():
    with pytest.raises(ValueError, match=r"at most 0, got 4.0 at index 1; pass log P\(text\), not its negative"):
        bits_per_byte([-1.0, 4.0], [1, 1])


def test_rounding_above_zero_is_none():
    assert target_perplexity([1e-7, 1e-7]).value == 1.0


@pytest.mark.parametrize("function", [bits_per_byte, byte_perplexity, word_perplexity, token_perplexity])
@pytest.mark.parametrize(
    ("logprobs", "sizes"), [([], []), ([math.nan], [1]), ([-math.inf], [1]), ([-1.0], [0]), ([-1.0], [1, 2])]
)
def test_nothing_not_finite_and_unpaired_are_refused(function, logprobs, sizes):
    with pytest.raises(ValueError):
        function(logprobs, sizes)


def test_a_vocabulary_of_one_has_no_uncertainty():
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        uniform_bits_per_byte([1], [1], 1)


@given(st.lists(st.tuples(st.floats(-50, 0), st.integers(1, 30)), min_size=2, max_size=12))
def test_cutting_documents_apart_does_not_change_the_value(pairs):
    logprobs, sizes = zip(*pairs, strict=True)
    joined = bits_per_byte([sum(logprobs)], [sum(sizes)])
    assert bits_per_byte(logprobs, sizes).value == pytest.approx(joined.value, abs=1e-9)
