"""Dimensions of a covariance: spectra by hand, what white noise shows, and agreement with the slow form."""

import math

import numpy as np
import pytest
from building_blocks import sparsity_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from trialplate.metrics.dimension import erank, erank_white, pr_cov, pr_cov_white

SPECTRA = st.lists(st.floats(0.001, 1000), min_size=1, max_size=8)


def rotated(eigenvalues, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    return (basis * eigenvalues) @ basis.T


def white(rng, d, n_tokens):
    return np.cov(rng.normal(size=(n_tokens, d)), rowvar=False)


def test_by_hand():
    # 4, 2, 2: 64 / 24; shares 1/2, 1/4, 1/4: entropy 1.5 ln 2
    C = rotated([4.0, 2.0, 2.0])
    assert pr_cov(C) == pytest.approx(64 / 24)
    assert erank(C) == pytest.approx(2**1.5)


def test_one_direction_is_one_dimension_and_equal_ones_are_all():
    direction = np.array([1.0, -2.0, 3.0])
    assert (pr_cov(np.outer(direction, direction)), erank(np.outer(direction, direction))) == pytest.approx((1, 1))
    assert (pr_cov(np.eye(5) * 7), erank(np.eye(5) * 7)) == pytest.approx((5, 5))


@settings(max_examples=40, deadline=None)
@given(SPECTRA, st.integers(-300, 300))
def test_equals_the_slow_form_at_any_scale(spectrum, exponent):
    C = rotated(spectrum) * 2.0**exponent
    assert pr_cov(C) == pytest.approx(slow.slow_participation(spectrum))
    assert erank(C) == pytest.approx(slow.slow_effective_rank(spectrum))
    assert 1 - 1e-9 <= pr_cov(C) <= erank(C) * (1 + 1e-9) <= len(spectrum) * (1 + 1e-8)


def test_scatter_and_covariance_of_rows_give_the_same():
    rows = np.random.default_rng(0).normal(size=(12, 4)) * [1, 2, 3, 4]
    C = np.array(slow.slow_covariance(rows.tolist()))
    assert pr_cov(C * 11) == pytest.approx(pr_cov(np.cov(rows, rowvar=False)))
    assert erank(C) == pytest.approx(slow.slow_effective_rank(np.linalg.eigvalsh(C).tolist()))


# --- white noise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "n_tokens"), [(30, 31), (30, 300), (60, 21)])
def test_participation_of_white_noise_is_what_is_stated(d, n_tokens):
    rng = np.random.default_rng(0)
    drawn = np.array([pr_cov(white(rng, d, n_tokens)) for _ in range(400)])
    wanted = pr_cov_white(d, n_tokens)
    scatter = drawn.std() / math.sqrt(len(drawn))
    assert 1 / np.mean(1 / drawn) == pytest.approx(wanted, abs=4 * scatter)
    assert drawn.mean() == pytest.approx(wanted, rel=0.004)
    assert wanted == pytest.approx(d * (n_tokens - 1) / (d + n_tokens - 1), rel=0.02)


def test_one_unit_or_one_degree_of_freedom_is_one_dimension():
    for size in (2, 5, 100):
        assert pr_cov_white(1, size) == pytest.approx(1)
        assert pr_cov_white(size, 2) == pytest.approx(1)


@pytest.mark.parametrize(("d", "n_tokens"), [(60, 61), (60, 300), (80, 31)])
def test_effective_rank_of_white_noise_is_what_is_stated(d, n_tokens):
    rng = np.random.default_rng(0)
    drawn = np.array([erank(white(rng, d, n_tokens)) for _ in range(60)])
    share = 1 - drawn.mean() / erank_white(d, n_tokens)
    assert 0 < share < 0.45 / min(d, n_tokens - 1)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_white_effective_rank_is_the_integral_over_marchenko_and_pastur(ratio):
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2

    def density(x):
        return math.sqrt(max(0.0, (high - x) * (x - low))) / (2 * math.pi * ratio * x)

    entropy = -quad(lambda x: density(x) * x * math.log(x), low, high, limit=200)[0]  # of p = x / d, less ln d
    d = 1000
    assert erank_white(d, round(d / ratio) + 1) == pytest.approx(d * math.exp(entropy), rel=1e-5)


def test_few_tokens_bound_the_dimension():
    assert pr_cov_white(1000, 11) < 10
    assert erank_white(1000, 11) < 10
    assert pr_cov_white(100, 10**9) == pytest.approx(100, rel=1e-5)
    assert erank_white(100, 10**9) == pytest.approx(100, rel=1e-5)


def test_participation_of_the_covariance_does_not_grow_with_tokens():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(40, 40)) * np.exp(-np.arange(40) / 5)
    few, many = (pr_cov(np.cov(rng.normal(size=(n, 40)) @ mixing.T, rowvar=False)) for n in (4_000, 32_000))
    assert many == pytest.approx(few, rel=0.05)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_what_is_no_covariance_is_refused():
    for measure in (pr_cov, erank):
        with pytest.raises(ValueError, match=r"\[d, d\]"):
            measure(np.ones((3, 2)))
        with pytest.raises(ValueError, match="nothing varies"):
            measure(np.zeros((3, 3)))
        with pytest.raises(ValueError, match="NaN or infinity"):
            measure([[1.0, math.nan], [math.nan, 1.0]])
        with pytest.raises(ValueError, match="symmetric"):
            measure([[1.0, 0.5], [0.0, 1.0]])
        with pytest.raises(ValueError, match="symmetric"):
            measure([[-1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="negative eigenvalue"):
        erank([[1.0, 2.0], [2.0, 1.0]])


def test_white_noise_needs_units_and_tokens():
    for white_value in (pr_cov_white, erank_white):
        with pytest.raises(ValueError, match="two tokens"):
            white_value(5, 1)
        with pytest.raises(ValueError, match="one unit"):
            white_value(0, 10)
