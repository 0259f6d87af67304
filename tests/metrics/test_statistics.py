"""Statistics on numbers worked out by hand, and the laws that each must obey."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.statistics import (
    bootstrap,
    clustered_mean,
    clustered_proportion,
    difference,
    exp_mean,
    exponential,
    mean,
    paired_difference,
    proportion,
    ratio_of_sums,
    wilson,
)

FINITE = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))
VALUES = st.lists(FINITE, min_size=2, max_size=40)
CREDITS = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=40)


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_mean_by_hand():
    estimate = mean([1, 2, 3, 4])  # s^2 = 5/3, stderr = sqrt(5/12), t(3, .975) = 3.1824463
    assert estimate.value == 2.5
    assert estimate.n == 4
    assert estimate.stderr == pytest.approx(math.sqrt(5 / 12))
    assert estimate.ci == pytest.approx((2.5 - 3.1824463 * math.sqrt(5 / 12), 2.5 + 3.1824463 * math.sqrt(5 / 12)))


def test_proportion_by_hand():
    estimate = proportion([1] * 8 + [0] * 2)  # the textbook interval of 8 of 10: 0.490, 0.943
    assert estimate.value == 0.8
    assert estimate.stderr == pytest.approx(math.sqrt(0.8 * 0.2 / 9))
    assert estimate.ci == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert estimate.method == "Wilson"


def test_all_right_is_not_certainty():
    estimate = proportion([True] * 20)  # low end n / (n + z^2)
    assert estimate.stderr == 0
    assert estimate.ci == pytest.approx((20 / (20 + 1.959964**2), 1.0))
    assert clustered_proportion([True] * 20, [0, 1] * 10).ci[0] < estimate.ci[0]


def test_ties_count_a_half():
    estimate = proportion([1, 0.5, 0.5, 0])
    assert estimate.value == 0.5
    assert estimate.stderr == pytest.approx(math.sqrt(0.5 / 3 / 4))
    assert estimate.ci == proportion([1, 1, 0, 0]).ci


def test_clustered_mean_by_hand():
    # clusters {0, 2} and {4, 6}: mean 3, cluster sums of residuals -4 and +4; var = 2/1 * 32 / 16 = 4; t(1, .975) = 12.7062
    estimate = clustered_mean([0, 2, 4, 6], ["a", "a", "b", "b"])
    assert (estimate.value, estimate.n, estimate.stderr) == (3.0, 4, 2.0)
    assert estimate.ci == pytest.approx((3 - 2 * 12.7062047, 3 + 2 * 12.7062047))
    assert "2 clusters" in estimate.method


def test_clustered_proportion_by_hand():
    # p = 1/2, cluster sums of residuals 1, 1, -1, -1: stderr = sqrt(4/3 * 4) / 8, n_eff = (1/4) / (1/12) = 3; t(3, .975) = 3.18245
    estimate = clustered_proportion([1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3])
    assert estimate.stderr == pytest.approx(math.sqrt(1 / 12))
    assert estimate.ci == pytest.approx(wilson(0.5, 3, 3.1824463), abs=1e-6)


def test_ratio_of_sums_by_hand():
    # r = 6/3 = 2; residuals 1 - 2, 5 - 4 = -1, 1; var = 2 * 2 / 9
    estimate = ratio_of_sums([1, 5], [1, 2])
    assert (estimate.value, estimate.n) == (2.0, 2)
    assert estimate.stderr == pytest.approx(2 / 3)
    assert ratio_of_sums([1, 5], [1, 2], scale=10).stderr == pytest.approx(20 / 3)
    assert ratio_of_sums([1, 5], [1, 2], clusters="aa").stderr is None


def test_ratio_of_equal_sizes_is_the_mean():
    ratio, plain = ratio_of_sums([1, 2, 4], [1, 1, 1]), mean([1, 2, 4])
    assert (ratio.value, ratio.stderr) == pytest.approx((plain.value, plain.stderr))
    assert ratio.ci == pytest.approx(plain.ci)


def test_perplexity_by_hand():
    estimate, log = exp_mean([1.0, 3.0]), mean([1.0, 3.0])
    assert estimate.value == pytest.approx(math.e**2)
    assert estimate.stderr == pytest.approx(math.e**2)  # exp(2) * 1
    assert estimate.ci == pytest.approx((math.exp(log.ci[0]), math.exp(log.ci[1])))


def test_perplexity_of_constant_surprise_is_exact():
    assert exp_mean([2.0, 2.0]).stderr == 0
    assert exp_mean([2.0]).stderr is None


def test_a_perplexity_beyond_float_is_refused_and_its_interval_is_capped():
    with pytest.raises(ValueError, match="report the logarithm"):
        exp_mean([800.0, 800.0])
    wide = exp_mean([1.0, 500.0])
    assert wide.ci[1] == pytest.approx(np.finfo(float).max)


def test_paired_difference_cancels_what_items_share():
    hard = np.array([0.0, 10.0, 20.0, 30.0])
    estimate = paired_difference(hard + np.array([1, 2, 1, 2]), hard)
    assert estimate.value == 1.5
    assert estimate.stderr == pytest.approx(math.sqrt(1 / 3 / 4))
    assert paired_difference(hard + 1, hard, clusters=[0, 0, 1, 1]).stderr == 0


def test_welch_difference_by_hand():
    # s1^2/n1 = 1/2 * ... : [0, 2] -> 2/2 = 1, [0, 4] -> 8/2 = 4; stderr sqrt 5, degrees 25 / (1 + 16) = 1.470588
    estimate = difference([0, 2], [0, 4])
    assert (estimate.value, estimate.n) == (-1.0, 4)
    assert estimate.stderr == pytest.approx(math.sqrt(5))
    assert estimate.ci[0] < -12
    assert difference([1.0, 1.0], [0.0, 0.0]).ci == (1.0, 1.0)
    assert difference([1.0], [0.0, 1.0]).stderr is None


def test_bootstrap_agrees_with_the_closed_form():
    values = np.random.default_rng(0).normal(size=200)
    drawn, closed = bootstrap(values, np.mean, np.random.default_rng(1), 4_000), mean(values)
    assert drawn.value == pytest.approx(closed.value)
    assert drawn.stderr == pytest.approx(closed.stderr, rel=0.06)
    assert drawn.ci == pytest.approx(closed.ci, abs=0.02)


def test_bootstrap_keeps_columns_of_an_item_together():
    def slope(samples, axis):
        return samples[..., 1].sum(axis=axis) / samples[..., 0].sum(axis=axis)

    pairs = np.stack([np.arange(1.0, 9), 3 * np.arange(1.0, 9)], axis=1)
    estimate = bootstrap(pairs, slope, np.random.default_rng(0), 50)
    assert (estimate.value, estimate.n) == (pytest.approx(3), 8)
    assert estimate.stderr == pytest.approx(0, abs=1e-12)


def test_bootstrap_is_reproducible_in_slices(monkeypatch):
    values = np.arange(50.0)
    whole = bootstrap(values, np.median, np.random.default_rng(3), 100)
    monkeypatch.setattr("trialplate.metrics.statistics._DRAWN_AT_ONCE", 500)
    sliced = bootstrap(values, np.median, np.random.default_rng(3), 100)
    assert sliced == whole


# --- one observation, and what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimate",
    [
        mean([2.0]),
        proportion([1]),
        clustered_mean([1.0, 2.0], ["a", "a"]),
        clustered_proportion([1, 0], ["a", "a"]),
        ratio_of_sums([1.0], [2.0]),
        exp_mean([1.0]),
        paired_difference([1.0], [0.0]),
        bootstrap([1.0], np.mean, np.random.default_rng(0), 10),
    ],
)
def test_one_observation_shows_no_spread(estimate):
    assert estimate.stderr is None
    assert estimate.ci is None


ONE_ARGUMENT = [mean, proportion, exp_mean, lambda v: bootstrap(v, np.mean, np.random.default_rng(0), 5)]


@pytest.mark.parametrize("function", ONE_ARGUMENT)
@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "nothing was measured"),
        ([0.5, math.nan, 0.1], "not finite, first nan at index 1"),
        ([math.inf, 0.5], "not finite, first inf at index 0"),
    ],
)
def test_empty_and_not_finite_are_refused(function, values, text):
    with pytest.raises(ValueError, match=text):
        function(values)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mean([[1.0, 2.0]]), r"a vector; got shape \(1, 2\)"),
        (lambda: mean(3.0), "shape"),
        (lambda: mean([1.0, 2.0], level=95), "95 % is 0.95"),
        (lambda: proportion([0, 1.5]), r"a credit lies in \[0, 1\], got 1.5 at index 1"),
        (lambda: proportion([0, 1], level=0), "between 0 and 1"),
        (lambda: clustered_mean([1.0, 2.0], ["a"]), "1 labels for 2 items"),
        (lambda: ratio_of_sums([1.0, 2.0], [1.0]), "got 2 and 1"),
        (lambda: ratio_of_sums([1.0, 2.0], [0.0, 0.0]), "some positive"),
        (lambda: ratio_of_sums([1.0, 2.0], [3.0, -1.0]), "none negative"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "same items"),
        (lambda: bootstrap([1.0, 2.0], np.mean, np.random.default_rng(0), 1), "at least 2 draws"),
        (lambda: bootstrap([1.0, 2.0], np.mean, np.random.default_rng(0), 9, level=2), "between 0 and 1"),
        (lambda: bootstrap(np.ones((3, 2)), np.mean, np.random.default_rng(0), 9), "does it use axis=1"),
        (lambda: bootstrap([[1.0], [math.nan]], np.mean, np.random.default_rng(0), 9), r"index \[1, 0\]"),
    ],
)
def test_misuse_is_told(call, text):
    with pytest.raises(ValueError, match=text):
        call()


# --- laws ------------------------------------------------------------------------------------------------------------


@given(VALUES)
def test_the_interval_of_a_mean_holds_the_mean(values):
    estimate = mean(values)
    assert estimate.ci[0] <= estimate.value <= estimate.ci[1]
    assert estimate.value == pytest.approx(sum(values) / len(values), abs=1e-9)


@given(CREDITS)
def test_the_interval_of_a_share_holds_it_and_stays_in_range(credits):
    estimate = proportion(credits)
    assert 0 <= estimate.ci[0] <= estimate.value <= estimate.ci[1] <= 1
    assert estimate.ci[0] < estimate.ci[1]


@given(CREDITS, st.data())
def test_the_interval_of_a_clustered_share_is_not_narrower(credits, data):
    labels = data.draw(st.lists(st.integers(0, 3), min_size=len(credits), max_size=len(credits)))
    clustered, plain = clustered_proportion(credits, labels), proportion(credits)
    assert clustered.value == plain.value
    if clustered.ci is not None:
        assert clustered.ci[0] <= plain.ci[0]
        assert clustered.ci[1] >= plain.ci[1]


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    labels = [index % 3 for index in range(len(values))]
    for one, two in [
        (mean(values), mean([values[i] for i in order])),
        (clustered_mean(values, labels), clustered_mean([values[i] for i in order], [labels[i] for i in order])),
    ]:
        assert one.value == pytest.approx(two.value, abs=1e-6)
        assert one.stderr == pytest.approx(two.stderr, rel=1e-6, abs=1e-6)


@given(VALUES, st.floats(0.01, 100), FINITE)
def test_scale_and_shift_pass_through(values, scale, shift):
    plain, moved = mean(values), mean([scale * value + shift for value in values])
    assert moved.value == pytest.approx(scale * plain.value + shift, rel=1e-6, abs=1e-3)
    assert moved.stderr == pytest.approx(scale * plain.stderr, rel=1e-6, abs=1e-3)


@given(VALUES)
def test_a_cluster_of_its_own_each_is_no_clustering(values):
    clustered, plain = clustered_mean(values, range(len(values))), mean(values)
    assert (clustered.value, clustered.stderr, clustered.ci) == (plain.value, plain.stderr, plain.ci)


@given(CREDITS, st.integers(2, 5))
def test_more_of_the_same_narrows(credits, times):
    one, many = proportion(credits), proportion(credits * times)
    assert many.ci[1] - many.ci[0] < one.ci[1] - one.ci[0]
    assert many.stderr <= one.stderr


@given(VALUES, st.integers(2, 4))
def test_repeating_items_within_their_cluster_teaches_nothing(values, times):
    labels = list(range(len(values)))
    one, many = clustered_mean(values, labels), clustered_mean(values * times, labels * times)
    assert many.stderr == pytest.approx(one.stderr, rel=1e-6, abs=1e-6)


@given(VALUES)
def test_a_pair_with_itself_differs_by_nothing(values):
    estimate = paired_difference(values, values)
    assert (estimate.value, estimate.stderr, estimate.ci) == (0.0, 0.0, (0.0, 0.0))


@given(st.lists(st.floats(0, 50), min_size=2, max_size=20))
def test_exponential_keeps_order_and_contains(values):
    log, estimate = mean(values), exp_mean(values)
    assert estimate.ci[0] <= estimate.value <= estimate.ci[1]
    assert exponential(log) == estimate


@pytest.mark.parametrize(("share", "n"), [(0.5, 40), (0.9, 60), (0.97, 200)])
def test_wilson_covers_as_often_as_it_says(share, n):
    right = np.random.default_rng(7).binomial(n, share, size=4_000)
    ends = np.array([wilson(k / n, n, 1.959964) for k in range(n + 1)])[right]
    covered = ((ends[:, 0] <= share) & (share <= ends[:, 1])).mean()
    assert covered == pytest.approx(0.95, abs=0.025)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_clustered_intervals_cover_where_plain_ones_do_not(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(12), 10)
    plain_hits = clustered_hits = 0
    for _ in range(150):
        values = rng.normal(size=12)[labels] + 0.3 * rng.normal(size=120)
        plain, clustered = mean(values), clustered_mean(values, labels)
        plain_hits += plain.ci[0] <= 0 <= plain.ci[1]
        clustered_hits += clustered.ci[0] <= 0 <= clustered.ci[1]
    assert clustered_hits > 0.86 * 150
    assert plain_hits < 0.7 * 150
