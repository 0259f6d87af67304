"""Sparsity of a unit over tokens: values by hand, constants of known distributions, intervals over clusters, and agreement with the slow form."""

import math

import numpy as np
import pytest
from building_blocks import sparsity_slow as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from trialplate.metrics.lifetime import (
    UnitMeasure,
    excess_kurtosis,
    firing_shares,
    lifetime_gini,
    lifetime_hoyer,
    lifetime_means,
    lifetime_treves_rolls,
)

TABLES = st.integers(1, 5).flatmap(
    lambda d: st.lists(
        st.lists(st.integers(-64, 64).map(lambda k: k / 16), min_size=d, max_size=d), min_size=2, max_size=12
    ).map(np.array)
)


def sums(rows):
    return np.abs(rows).sum(0), np.square(rows).sum(0), len(rows)


def moments(rows):
    centred = rows - rows.mean(0)
    return (centred**2).sum(0), (centred**4).sum(0), len(rows)


def none_is_nan(values):
    return np.array([math.nan if v is None else v for v in values])


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_measures_by_hand():
    rows = np.array([[3.0, 1, 0], [-4, 1, 0], [0, 1, 0], [0, -1, 0]])
    assert lifetime_treves_rolls(*sums(rows)).values == pytest.approx([0.49, 1, math.nan], nan_ok=True)
    assert lifetime_hoyer(*sums(rows)).values == pytest.approx([0.6, 0, math.nan], nan_ok=True)
    assert lifetime_gini(rows).values == pytest.approx([15 / 28, 0, math.nan], nan_ok=True)


def test_a_coin_has_the_least_kurtosis():
    # 1, 1, -1, -1: m2 = m4 = 4; and one of four: 3/4, -1/4 x 3: m2 = 3/4, m4 = 84/256: 4 * 84/256 / (9/16) - 3 = -2/3
    found = excess_kurtosis([4, 0.75], [4, 84 / 256], 4)
    assert found.values == pytest.approx([-2, -2 / 3])


def test_units_that_never_move_are_counted_not_averaged():
    measure = UnitMeasure(np.array([0.25, math.nan, 0.75]))
    assert (measure.n_undefined, measure.mean()) == (1, 0.5)
    assert measure.defined.tolist() == [True, False, True]
    with pytest.raises(ValueError, match="undefined for all 2 units"):
        UnitMeasure(np.full(2, math.nan)).mean()


def test_a_constant_in_float32_has_no_kurtosis():
    n, constant = 1000, 1000.1
    residue = float(np.float32(constant)) - constant
    m2, m4 = [n * residue**2, 5.0], [n * residue**4, 1.0]
    assert excess_kurtosis(m2, m4, n).n_undefined == 0
    assert excess_kurtosis(m2, m4, n, mean=[constant, constant]).defined.tolist() == [False, True]


def test_a_unit_too_small_for_powers_in_float32_counts_as_still():
    assert lifetime_hoyer([1e-17], [0.0], 1000).n_undefined == 1
    assert excess_kurtosis([1e-17 * 1000], [0.0], 1000).n_undefined == 1


def test_dead_and_always_on_by_hand():
    n = 2_000_000
    found = firing_shares(
        [0, 1, 2, 1_980_000, 1_980_001], n
    )  # 2 of 2e6 is 1e-6, not below; 1.98e6 of 2e6 is 0.99, not above
    assert found == (2 / 5, 1 / 5, n, True)
    assert found[:2] == slow.slow_dead_and_always_on([0, 1, 2, 1_980_000, 1_980_001], n)


def test_dead_units_of_a_short_stream_mean_nothing():
    assert not firing_shares([0, 3], 999_999).meaningful
    assert firing_shares([0, 3], 1_000_000).meaningful
    assert firing_shares([0, 3], 999_999).dead_frac == 0.5
    with pytest.raises(ValueError, match="same tokens"):
        firing_shares([5], 4)


# --- known distributions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "treves_rolls", "hoyer", "gini", "kurtosis"),
    [
        ("relu", 1 / math.pi, 1 - 1 / math.sqrt(math.pi), math.sqrt(1 / 2), 2.4075),
        ("abs", 2 / math.pi, 1 - math.sqrt(2 / math.pi), math.sqrt(2) - 1, 0.8692),
        ("laplace", 1 / 2, 1 - math.sqrt(1 / 2), 1 / 2, 3),
    ],
)
def test_constants_of_known_distributions_to_one_percent(name, treves_rolls, hoyer, gini, kurtosis):
    n = 200_000
    rng = np.random.default_rng(0)
    uniform = (np.arange(n) + rng.random(n)) / n  # one at a random place of each n-th part
    normal, distance = ndtri(uniform), np.abs(uniform - 0.5)
    laplace = np.sign(uniform - 0.5) * -np.log1p(-2 * distance)
    rows = {"relu": np.maximum(normal, 0), "abs": np.abs(normal), "laplace": laplace}[name][:, np.newaxis]
    found = [
        lifetime_treves_rolls(*sums(rows)),
        lifetime_hoyer(*sums(rows)),
        lifetime_gini(rows),
        excess_kurtosis(*moments(rows)),
    ]
    assert [measure.mean() for measure in found] == pytest.approx([treves_rolls, hoyer, gini, kurtosis], rel=0.01)


# --- laws ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_equals_the_slow_form(rows):
    columns = slow.slow_columns(rows.tolist())
    for found, one in (
        (lifetime_treves_rolls(*sums(rows)), slow.slow_treves_rolls),
        (lifetime_hoyer(*sums(rows)), slow.slow_hoyer),
        (lifetime_gini(rows), slow.slow_gini),
        (excess_kurtosis(*moments(rows), mean=rows.mean(0)), slow.slow_excess_kurtosis),
    ):
        wanted = none_is_nan([one(column) for column in columns])
        # a column of one number keeps a residue of rounding in the slow form, where the fast one says undefined
        constant = (rows == rows[0]).all(0) & (one is slow.slow_excess_kurtosis)
        np.testing.assert_allclose(found.values[~constant], wanted[~constant], rtol=1e-9, atol=1e-7)
        assert not found.defined[constant].any()


@settings(max_examples=40, deadline=None)
@given(TABLES, st.floats(0.01, 100))
def test_scale_does_not_matter(rows, factor):
    for measure in (lifetime_treves_rolls, lifetime_hoyer):
        np.testing.assert_allclose(measure(*sums(rows)).values, measure(*sums(rows * factor)).values, atol=1e-9)
    one, other = (excess_kurtosis(*moments(r), mean=r.mean(0)).values for r in (rows, rows * factor))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_one_token_alone_is_the_sparsest_life():
    rows = np.zeros((50, 1))
    rows[7] = -3
    assert lifetime_hoyer(*sums(rows)).values == pytest.approx([1])
    assert lifetime_treves_rolls(*sums(rows)).values == pytest.approx([1 / 50])
    assert lifetime_gini(rows).values == pytest.approx([1 - 1 / 50])


# --- intervals over clusters -----------------------------------------------------------------------------------------


def clusters(c=40, d=30, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 60, c)
    parts = [np.abs(rng.normal(size=(n, d))) * np.exp(0.3 * rng.normal(size=d)) for n in tokens]
    return (
        tokens,
        np.stack([p.sum(0) for p in parts]),
        np.stack([np.square(p).sum(0) for p in parts]),
        np.concatenate(parts),
    )


def test_lifetime_means_are_those_of_the_whole_stream():
    tokens, a, s, rows = clusters()
    found = lifetime_means(tokens, a, s, np.random.default_rng(0), 50)
    assert list(found) == ["lifetime_treves_rolls", "lifetime_hoyer"]
    assert found["lifetime_treves_rolls"].value == pytest.approx(lifetime_treves_rolls(*sums(rows)).mean())
    assert found["lifetime_hoyer"].value == pytest.approx(lifetime_hoyer(*sums(rows)).mean())
    assert all(estimate.n == 40 and estimate.ci[0] < estimate.value < estimate.ci[1] for estimate in found.values())


def test_bootstrap_of_clusters_agrees_with_the_delta_method():
    tokens, a, s, _ = clusters(c=60)
    A, S, N = a.sum(0), s.sum(0), tokens.sum()
    # d ln(A^2 / (N S)) of one cluster is 2 a/A - s/S - n/N; weighted by the measure and averaged over units
    influence = (A**2 / (N * S) * (2 * a / A - s / S - (tokens / N)[:, np.newaxis])).mean(1)
    stderr = math.sqrt(60 / 59 * np.square(influence).sum())
    drawn = lifetime_means(tokens, a, s, np.random.default_rng(1), 2000)["lifetime_treves_rolls"]
    assert drawn.stderr == pytest.approx(stderr, rel=0.1)


def test_clusters_that_are_alike_leave_no_doubt():
    found = lifetime_means([5] * 6, np.ones((6, 3)), np.ones((6, 3)), np.random.default_rng(0), 20)
    assert found["lifetime_treves_rolls"].stderr == pytest.approx(0, abs=1e-12)


def test_the_generator_alone_decides_whatever_the_slices(monkeypatch):
    tokens, a, s, _ = clusters()
    whole = lifetime_means(tokens, a, s, np.random.default_rng(3), 64)
    monkeypatch.setattr("trialplate.metrics.lifetime._DRAWN_AT_ONCE", 100)
    sliced = lifetime_means(tokens, a, s, np.random.default_rng(3), 64)
    assert sliced["lifetime_hoyer"].ci == pytest.approx(whole["lifetime_hoyer"].ci, rel=1e-9)
    assert lifetime_means(tokens, a, s, np.random.default_rng(4), 64) != whole


def test_silent_units_are_named_and_one_cluster_shows_no_spread():
    a, s = np.array([[2.0, 0.0, 1.0]]), np.array([[2.0, 0.0, 1.0]])
    found = lifetime_means([4], a, s, np.random.default_rng(0))["lifetime_treves_rolls"]
    assert (found.value, found.stderr, found.n) == (pytest.approx((4 / 8 + 1 / 4) / 2), None, 1)
    assert "1 of 3 units never moved" in found.method


def test_errors_say_what_was_wanted():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="same tokens"):
        lifetime_treves_rolls([10.0], [1.0], 10)
    with pytest.raises(ValueError, match="n >= 2"):
        lifetime_hoyer([1.0], [1.0], 1)
    with pytest.raises(ValueError, match="nothing was measured"):
        lifetime_hoyer([], [], 5)
    with pytest.raises(ValueError, match="finite"):
        lifetime_hoyer([math.nan], [1.0], 5)
    with pytest.raises(ValueError, match="same units"):
        excess_kurtosis([1.0, 2.0], [1.0], 5)
    with pytest.raises(ValueError, match="leave out those"):
        lifetime_means([3, 0], np.ones((2, 2)), np.ones((2, 2)), rng)
    with pytest.raises(ValueError, match="tokens \\[c\\]"):
        lifetime_means([3], np.ones((2, 2)), np.ones((2, 2)), rng)
    with pytest.raises(ValueError, match="at least 2 draws"):
        lifetime_means([3, 3], np.ones((2, 2)), np.ones((2, 2)), rng, 1)
    lonely = np.array([[1.0], [0.0], [0.0]])
    with pytest.raises(ValueError, match="no unit moves at all"):
        lifetime_means([3, 3, 3], lonely, lonely, rng, 100)
    with pytest.raises(ValueError, match="sample of tokens"):
        lifetime_gini(np.ones(4))
