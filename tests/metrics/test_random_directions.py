"""Chance levels: closed forms by hand, against simulation, and against the table that is published."""

import math

import numpy as np
import pytest

from trialplate.metrics.decoder_similarity import mean_max_cosine
from trialplate.metrics.random_directions import adjusted, cosine_cdf, expected_max_cosine, gaussian_rows


@pytest.mark.parametrize("m", [1, 2, 7])
def test_in_three_channels_a_cosine_is_uniform(m):
    # Archimedes: uniform on [-1, 1], so the largest of m has mean (m - 1)/(m + 1), and of absolute values m/(m + 1)
    assert expected_max_cosine(3, m) == pytest.approx((m - 1) / (m + 1))
    assert expected_max_cosine(3, m, absolute=True) == pytest.approx(m / (m + 1))


def test_in_two_channels_one_absolute_cosine_is_two_over_pi():
    assert expected_max_cosine(2, 1, absolute=True) == pytest.approx(2 / math.pi)
    assert expected_max_cosine(2, 1) == pytest.approx(0, abs=1e-9)


def test_distribution_of_a_cosine():
    assert cosine_cdf(np.array([-1, 0, 1]), 7).tolist() == [0, 0.5, 1]
    assert cosine_cdf(0.5, 3) == pytest.approx(0.75)
    assert cosine_cdf(-0.5, 2) == pytest.approx(1 / 3)  # an angle of more than 120 of 180 degrees


# d, m, signed, absolute: simulated values of a published table, three digits and one draw each
PUBLISHED = [
    (64, 512, 0.369, 0.393),
    (128, 1024, 0.285, 0.301),
    (512, 512, 0.135, 0.142),
    (512, 1024, 0.143, 0.151),
    (512, 2048, 0.152, 0.160),
    (512, 4096, 0.159, 0.167),
]
# d, m, absolute: a second table, of more draws
PUBLISHED_ABSOLUTE = [
    (128, 64, 0.226),
    (128, 128, 0.2476),
    (128, 256, 0.266),
    (128, 512, 0.283),
    (128, 1024, 0.2986),
    (512, 1024, 0.1516),
    (512, 2048, 0.1596),
    (64, 128, 0.347),
]


@pytest.mark.parametrize(("d", "m", "signed", "absolute"), PUBLISHED)
def test_published_chance_levels(d, m, signed, absolute):
    assert expected_max_cosine(d, m) == pytest.approx(signed, abs=0.0025)
    assert expected_max_cosine(d, m, absolute=True) == pytest.approx(absolute, abs=0.0025)


@pytest.mark.parametrize(("d", "m", "absolute"), PUBLISHED_ABSOLUTE)
def test_published_chance_levels_of_absolute_cosines(d, m, absolute):
    assert expected_max_cosine(d, m, absolute=True) == pytest.approx(absolute, abs=0.002)


@pytest.mark.parametrize(("d", "m"), [(16, 40), (64, 512)])
@pytest.mark.parametrize("absolute", [False, True])
def test_expectation_is_what_simulation_shows(d, m, absolute):
    rng = np.random.default_rng(0)
    drawn = [mean_max_cosine(gaussian_rows(m, d, rng), gaussian_rows(m, d, rng), absolute) for _ in range(12)]
    stderr = np.std(drawn, ddof=1) / math.sqrt(12)
    assert abs(np.mean(drawn) - expected_max_cosine(d, m, absolute)) < 4 * stderr
    assert stderr < 0.01  # otherwise the line above shows nothing


def test_chance_rises_with_the_number_of_latents_and_falls_with_channels():
    assert expected_max_cosine(128, 64) < expected_max_cosine(128, 128) < expected_max_cosine(128, 100_000) < 1
    assert expected_max_cosine(4096, 32_768) < expected_max_cosine(512, 32_768)


def test_absolute_values_of_m_are_about_twice_as_many_signed_ones():
    assert expected_max_cosine(128, 512, absolute=True) == pytest.approx(expected_max_cosine(128, 1024), abs=1e-4)


def test_adjusted_by_hand():
    assert adjusted(0.65, 0.3) == pytest.approx(0.5)
    assert adjusted(0.3, 0.3) == 0
    assert adjusted(1, 0.3) == 1
    assert adjusted(0.2, 0.3) < 0


@pytest.mark.parametrize(("score", "chance"), [(0.5, 1.0), (1.2, 0.3), (float("nan"), 0.3), (0.5, float("nan"))])
def test_what_cannot_be_adjusted_is_refused(score, chance):
    with pytest.raises(ValueError, match="a chance below 1"):
        adjusted(score, chance)


def test_one_channel_has_no_distribution():
    with pytest.raises(ValueError, match="at least 2 channels"):
        expected_max_cosine(1, 4)
