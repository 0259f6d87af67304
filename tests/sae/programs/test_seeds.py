"""Seeds are the observations: comparisons over them, corrected for their number, and slopes that each seed has of its own."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from trialplate.metrics.estimate import Estimate
from trialplate.sae.errors import StudyError
from trialplate.sae.programs.seeds import check_seeds, compare_all, holm, over_seeds, paired_p_value
from trialplate.sae.programs.slopes import power_law


def test_holm_by_hand():
    # sorted .01 .02 .03 .5: times 4, 3, 2, 1 are .04 .06 .06 .5; none falls below an earlier one
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(StudyError, match="between 0 and 1"):
        holm([0.5, p])


def test_the_paired_test_is_scipys():
    a, b = [0.9, 0.8, 0.95, 0.7], [0.7, 0.75, 0.7, 0.72]
    ((found,),) = compare_all([{"a": dict(enumerate(a)), "b": dict(enumerate(b))}])
    assert found.p_value == pytest.approx(ttest_rel(a, b).pvalue)
    assert found.difference.value == pytest.approx(0.12)
    assert (found.difference.n, found.better) == (4, None)


def test_differences_without_spread():
    assert paired_p_value(Estimate(0.0, 3, 0.0, (0.0, 0.0))) == 1
    assert paired_p_value(Estimate(0.1, 3, 0.0, (0.1, 0.1))) == 0
    with pytest.raises(StudyError, match="no spread"):
        paired_p_value(Estimate(0.1, 1, None, None))


def test_all_families_are_corrected_together():
    near = {"a": {1: 0.50, 2: 0.52, 3: 0.51}, "b": {1: 0.50, 2: 0.51, 3: 0.53}}
    far = {"a": {1: 0.90, 2: 0.91, 3: 0.92}, "b": {1: 0.50, 2: 0.52, 3: 0.51}}
    alone = compare_all([far])[0][0]
    together = compare_all([near, far])[1][0]
    assert (alone.better, together.better) == ("a", "a")
    assert together.p_value == alone.p_value
    assert together.p_holm == pytest.approx(2 * alone.p_holm)


def test_the_better_one_is_named_by_its_sign():
    ((found,),) = compare_all([{"low": {1: 0.1, 2: 0.12, 3: 0.11}, "high": {1: 0.9, 2: 0.91, 3: 0.92}}])
    assert found.better == "high"


def test_other_seeds_cannot_be_paired():
    with pytest.raises(StudyError, match=r"a has the seeds \[1, 2, 3\], b has \[1, 2, 4\]"):
        compare_all([{"a": dict.fromkeys((1, 2, 3), 0.5), "b": dict.fromkeys((1, 2, 4), 0.5)}])


def test_intervals_of_few_seeds_are_by_student_t_not_z():
    found = over_seeds({1: 1.0, 2: 2.0, 3: 3.0})
    # s / sqrt 3 = 0.577; t of two degrees is 4.303, where z would be 1.96
    assert found.value == 2
    assert found.ci == pytest.approx((2 - 4.303 * 0.57735, 2 + 4.303 * 0.57735), rel=1e-3)


def test_two_seeds_or_a_seed_twice_are_refused():
    with pytest.raises(StudyError, match="at least 3 seeds, got 2"):
        check_seeds([1, 2])
    with pytest.raises(StudyError, match="counted as two"):
        check_seeds([1, 2, 2, 3])


def test_a_slope_by_hand():
    # y = 3 x^-0.5 for one seed, x^-0.3 and x^-0.1 for the others: slopes -0.5, -0.3, -0.1
    exponents, scales = {1: -0.5, 2: -0.3, 3: -0.1}, {1: 3.0, 2: 1.0, 3: 1.0}
    law = power_law({s: {x: scales[s] * x**e for x in (10, 100, 1000)} for s, e in exponents.items()})
    assert law.slope.value == pytest.approx(-0.3)
    assert law.slope.n == 3
    assert law.slope.stderr == pytest.approx(0.2 / math.sqrt(3))
    assert law.intercept.value == pytest.approx(math.log(3) / 3)
    assert law.bend is not None
    assert law.bend.value == pytest.approx(0, abs=1e-12)
    assert law.sizes == (10, 100, 1000)


def test_the_mean_of_seeds_slopes_is_the_slope_of_all_points():
    rng = np.random.default_rng(0)
    values = {seed: {x: float(rng.uniform(0.1, 1)) for x in (10, 30, 200, 900)} for seed in range(4)}
    x = [math.log(size) for of in values.values() for size in of]
    y = [math.log(value) for of in values.values() for value in of.values()]
    assert power_law(values).slope.value == pytest.approx(np.polyfit(x, y, 1)[0])


def test_a_bend_is_seen_where_there_is_no_power_law():
    law = power_law({s: {x: math.exp(-0.1 * math.log(x) ** 2 + 0.001 * s) for x in (10, 100, 1000)} for s in range(3)})
    assert law.bend is not None
    assert law.bend.value == pytest.approx(-0.1)
    assert power_law({s: {10: 1.0, 100: 0.5 + 0.01 * s} for s in range(3)}).bend is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({1: {10: 1.0, 20: 0.5}, 2: {10: 1.0, 20: 0.5}}, "at least 3 seeds"),
        ({s: {10: 1.0} for s in range(3)}, "at least 2 sizes"),
        ({0: {10: 1.0, 20: 0.5}, 1: {10: 1.0, 20: 0.5}, 2: {10: 1.0}}, "another slope"),
        ({s: {10: 1.0, 20: 0.0} for s in range(3)}, "positive finite"),
        ({s: {10: 1.0, 20: math.nan} for s in range(3)}, "positive finite"),
    ],
)
def test_what_has_no_slope_is_refused(values, text):
    with pytest.raises(StudyError, match=text):
        power_law(values)
