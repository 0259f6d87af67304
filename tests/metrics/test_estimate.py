"""An estimate refuses numbers that no report could carry."""

import math

import pytest

from trialplate.metrics.estimate import Estimate


def test_an_estimate_of_one_observation_has_no_interval():
    estimate = Estimate(0.5, 1, None, None)
    assert (estimate.stderr, estimate.ci, estimate.level) == (None, None, 0.95)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"value": math.nan}, "finite"),
        ({"value": math.inf}, "finite"),
        ({"stderr": math.nan}, "finite"),
        ({"ci": (0.1, math.inf)}, "finite"),
        ({"n": 0}, "at least one observation"),
        ({"level": 95}, "95 % is 0.95"),
        ({"stderr": -0.1}, "not negative"),
        ({"ci": (0.6, 0.4)}, "low to high"),
        ({"ci": None}, "come together"),
        ({"stderr": None}, "come together"),
    ],
)
def test_impossible_estimates_are_refused(fields, text):
    good = {"value": 0.5, "n": 4, "stderr": 0.1, "ci": (0.3, 0.7)}
    Estimate(**good)
    with pytest.raises(ValueError, match=text):
        Estimate(**(good | fields))
