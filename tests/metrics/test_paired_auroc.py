"""AUROC with its uncertainty, alone and as a difference: by hand, against all pairs, and on draws."""

import math

import numpy as np
import pytest
from building_blocks import sae_probing_slow as slow

from trialplate.metrics.detection import auroc
from trialplate.metrics.paired_auroc import auroc_difference, auroc_estimate


def test_by_hand():
    # positives 3, 1; negatives 2, 0: three of four pairs are won. Placements 1, 1/2 and 1/2, 1: variances 1/8 each, halved and added
    found = auroc_estimate([3.0, 1.0, 2.0, 0.0], [True, True, False, False])
    assert found.value == 0.75
    assert found.stderr == pytest.approx(math.sqrt(1 / 8))


def test_value_is_that_of_detection():
    rng = np.random.default_rng(0)
    scores, y = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    assert auroc_estimate(scores, y).value == pytest.approx(auroc(scores[:, None], y)[0])


def test_perfect_separation_is_not_certainty():
    found = auroc_estimate(np.arange(20.0), np.arange(20) >= 10)
    assert found.value == found.ci[1] == 1
    assert found.ci[0] == pytest.approx(20 / (20 + 1.959964**2))  # Wilson's low end n / (n + z^2)


def test_difference_equals_the_slow_form():
    rng = np.random.default_rng(1)
    y = rng.random(30) < 0.5
    one, two = rng.integers(0, 6, 30) + 2.0 * y, rng.integers(0, 6, 30) + 1.0 * y
    found = auroc_difference(one, two, y)
    value, stderr = slow.auroc_difference(one.tolist(), two.tolist(), y.tolist())
    assert (found.value, found.stderr) == pytest.approx((value, stderr))


def test_a_score_does_not_differ_from_itself():
    rng = np.random.default_rng(2)
    scores, y = rng.normal(size=40), rng.random(40) < 0.5
    assert auroc_difference(scores, scores, y).ci == (0, 0)


def test_the_interval_of_a_difference_covers_zero_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        y = np.arange(80) < 40
        shared = rng.normal(size=80) + y
        low, high = auroc_difference(shared + rng.normal(size=80), shared + rng.normal(size=80), y).ci
        covered += low <= 0 <= high
    assert 180 <= covered <= 198  # 190 of 200 on average, standard deviation 3


def test_one_item_of_a_class_has_no_spread():
    assert auroc_estimate([2.0, 1.0, 0.0], [True, False, False]).stderr is None
    assert auroc_difference([2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [True, False, False]).value == 1


@pytest.mark.parametrize(
    ("scores", "y", "said"),
    [
        ([1.0, 2.0], [True, True], "two classes"),
        ([1.0, np.inf], [True, False], "no rank"),
        ([1.0, 2.0], [1, 0], "true or false"),
        ([1.0], [True, False], "one score and one label"),
    ],
)
def test_bad_input_is_refused(scores, y, said):
    with pytest.raises(ValueError, match=said):
        auroc_estimate(scores, y)
