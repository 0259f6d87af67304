"""Planes of a circuit: read where latents that lie in one surround its origin."""

import math

import numpy as np
import pytest

from trialplate.metrics.circle_reading import planes_read, widest_gap


def test_a_plane_is_read_by_latents_that_surround_its_origin():
    plane = np.eye(5)[:, :2]
    three = np.array([[1, 0, 0, 0, 0], [-0.5, 0.9, 0, 0, 0], [-0.5, -0.9, 0, 0, 0]], float)
    assert planes_read(three, [plane]).tolist() == [True]
    assert planes_read(three[:2], [plane]).tolist() == [False]  # two directions leave more than half a turn
    half = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [-1, 0, 0, 0, 0]], float)
    assert planes_read(half, [plane]).tolist() == [False]  # a gap of exactly half a turn: nothing can point there
    leaning = three + np.array([0, 0, 0.7, 0, 0])
    assert planes_read(leaning, [plane]).tolist() == [False]  # cosine with the plane 0.83
    assert planes_read(leaning, [plane], 0.8).tolist() == [True]


def test_the_widest_gap_is_known():
    assert widest_gap([[1, 0], [0, 1]]) == pytest.approx(1.5 * math.pi)
    assert widest_gap([[1, 0], [0, 1], [-1, 0], [0, -1]]) == pytest.approx(math.pi / 2)
    assert widest_gap([[2, 0]]) == pytest.approx(2 * math.pi)
    assert widest_gap(np.zeros((0, 2))) == pytest.approx(2 * math.pi)


@pytest.mark.parametrize(
    "planes", [[], [np.ones((5, 2))], [np.eye(4)[:, :2]]], ids=["none", "no right angles", "narrow"]
)
def test_what_is_no_plane_is_refused(planes):
    with pytest.raises(ValueError, match="plane"):
        planes_read(np.eye(5), planes)
