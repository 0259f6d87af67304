"""The jackknife over clusters: agrees with closed forms, takes what has a sign, and refuses what hangs on one cluster."""

import math

import numpy as np
import pytest

from trialplate.metrics.jackknife import jackknife
from trialplate.metrics.statistics import mean, ratio_of_sums


def ratio(sums):
    return sums[..., 0] / sums[..., 1]


def test_of_a_mean_it_is_the_usual_standard_error():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    found = jackknife(np.stack([values, np.ones(4)], axis=1), ratio)
    usual = mean(values)
    assert (found.value, found.n) == (4.0, 4)
    assert found.stderr == pytest.approx(usual.stderr, rel=1e-12)
    assert found.ci == pytest.approx(usual.ci, rel=1e-12)


def test_by_hand():
    # two clusters (2, 1) and (4, 3): value 6/4; without the first 4/3, without the second 2/1
    # mean of these 5/3, squared distances 1/9 + 1/9, times (2 - 1)/2: 1/9
    found = jackknife([[2, 1], [4, 3]], ratio)
    assert found.value == 1.5
    assert found.stderr == pytest.approx(1 / 3)


def test_near_the_delta_method_for_many_clusters():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 50, 300).astype(float)
    table = np.stack([sizes * 2 + rng.normal(0, 3, 300), sizes], axis=1)
    assert jackknife(table, ratio).stderr == pytest.approx(ratio_of_sums(table[:, 0], table[:, 1]).stderr, rel=0.03)


def test_denominators_may_be_negative_in_single_clusters():
    table = [[1.0, -0.5], [4.0, 3.0], [6.0, 2.0], [3.0, 2.0]]
    with pytest.raises(ValueError, match="none negative"):
        ratio_of_sums(*np.transpose(table))
    assert jackknife(table, ratio).value == 14 / 6.5


def test_one_cluster_has_no_spread():
    found = jackknife([[2.0, 4.0]], ratio)
    assert (found.value, found.stderr, found.ci) == (0.5, None, None)


def test_what_hangs_on_one_cluster_is_refused():
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="undefined without cluster 1 of 3"):
        jackknife([[1.0, 0.0], [1.0, 2.0], [2.0, 0.0]], ratio)


@pytest.mark.parametrize(
    ("sums", "words"),
    [([], "wanted sums"), ([1.0, 2.0], "wanted sums"), ([[1.0, math.nan]], "cluster 0 are not finite")],
)
def test_messages(sums, words):
    with pytest.raises(ValueError, match=words):
        jackknife(sums, ratio)
    with pytest.raises(ValueError, match="level of an interval"):
        jackknife([[1.0, 1.0]], ratio, level=95)
