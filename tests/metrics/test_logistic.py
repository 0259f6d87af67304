"""Logistic regression: at its minimum, whatever the scale, and against the slow form."""

import math

import numpy as np
import pytest
from building_blocks import sae_probing_slow as slow
from scipy.optimize import brentq

from trialplate.metrics.logistic import fit_logistic


def rows(n, k, seed, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, k))
    y = x @ rng.normal(size=k) + rng.normal(size=n) > 0.3
    return x * scale + shift, y


def test_one_column_by_hand():
    # x = +-1 with labels to match, two rows each: by symmetry b = 0, and w minimises w^2 / 2 + 4 log(1 + e^-w), so w = 4 / (1 + e^w)
    probe = fit_logistic([[1.0], [1.0], [-1.0], [-1.0]], [True, True, False, False])
    w = brentq(lambda w: w - 4 / (1 + math.exp(w)), 0, 4)
    assert probe.weights == pytest.approx([w], rel=1e-6)
    assert probe.bias == pytest.approx(0, abs=1e-6)


def test_columns_that_tell_nothing_leave_the_prior():
    # no column moves: w = 0, and b is the log odds of the labels, 3 to 1
    probe = fit_logistic(np.full((4, 2), 7.0), [True, True, True, False])
    assert probe.weights == pytest.approx([0, 0], abs=1e-9)
    assert probe.bias == pytest.approx(math.log(3), rel=1e-5)
    # and nothing at all where both classes weigh alike
    assert fit_logistic(np.full((4, 2), 7.0), np.arange(4) < 3, balanced=True).bias == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("k", "scale", "shift", "balanced"), [(1, 1, 0, False), (2, 100, -300, False), (3, 0.01, 1, True)]
)
def test_equals_the_slow_form(k, scale, shift, balanced):
    x, y = rows(40, k, seed=k, scale=scale, shift=shift)
    weights = [40 / (2 * y.sum()) if label else 40 / (2 * (~y).sum()) for label in y] if balanced else None
    w, b = slow.logistic(x.tolist(), y.tolist(), weights=weights)
    probe = fit_logistic(x, y, balanced=balanced)
    assert probe.weights == pytest.approx(w, rel=1e-4, abs=1e-6 / scale)
    assert probe.bias == pytest.approx(b, rel=1e-4, abs=1e-4 * abs(shift / scale) + 1e-5)


def test_the_gradient_is_zero_at_the_minimum():
    x, y = rows(300, 40, seed=0, shift=3)
    probe = fit_logistic(x, y, C=0.5)
    p = 1 / (1 + np.exp(-probe.logits(x)))
    assert np.abs(probe.weights + 0.5 * x.T @ (p - y)).max() < 1e-3
    assert abs((p - y).sum()) < 1e-3


def test_separable_rows_have_a_minimum():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    probe = fit_logistic(x, x[:, 0] > 0)
    assert (probe.says(x) == (x[:, 0] > 0)).all()
    assert np.isfinite(probe.weights).all()


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([[1.0], [2.0]], [True, True], "all 2 rows are True"),
        ([[1.0], [np.nan]], [True, False], "row 1 holds nan"),
        ([[1.0], [2.0]], [1, 0], "true or false"),
        ([1.0, 2.0], [True, False], "rows"),
        ([["a"], ["b"]], [True, False], "real numbers"),
    ],
)
def test_bad_rows_are_refused(x, y, said):
    with pytest.raises(ValueError, match=said):
        fit_logistic(x, y)


def test_c_is_positive_and_widths_fit():
    with pytest.raises(ValueError, match="above 0"):
        fit_logistic([[1.0], [2.0]], [True, False], C=0)
    with pytest.raises(ValueError, match=r"reads \[n, 1\]"):
        fit_logistic([[1.0], [2.0]], [True, False]).logits([[1.0, 2.0]])
