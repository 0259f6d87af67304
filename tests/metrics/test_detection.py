"""AUROC and average precision: by hand, against all pairs and all thresholds, and with ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.metrics.detection import auroc, average_precision

ROWS = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12).filter(
    lambda rows: 0 < sum(own for _, own in rows) < len(rows)
)


def both(values, is_task):
    column = np.asarray(values)[:, None]
    return auroc(column, np.asarray(is_task))[0], average_precision(column, np.asarray(is_task))[0]


def test_by_hand():
    # in order 1 0 1 0: pairs won 2 + 1 of 4; precision 1/1 and 2/3 at the two hits
    assert both([4.0, 3.0, 2.0, 1.0], [True, False, True, False]) == pytest.approx((3 / 4, (1 + 2 / 3) / 2))


def test_perfect_and_opposite_detectors():
    assert both([5, 4, 1, 0], [True, True, False, False]) == (1, 1)
    # hits come last: precision 1/3 and 2/4
    assert both([0, 1, 4, 5], [True, True, False, False]) == pytest.approx((0, (1 / 3 + 2 / 4) / 2))


def test_ties_by_hand():
    # scores 2 2 | 1 1 with hits 1 of 2 and 1 of 2: all pairs of one score count half, (1 + 1/2 + 1/2 + 0) / 4; each step has precision 1/2
    assert both([2, 2, 1, 1], [True, False, False, True]) == pytest.approx((0.5, 0.5))
    # scores 1 | 0 0 0 with hits 1, then 1 of 3: pairs (2 + 1) / 4; 1/2 * 1 + 1/2 * 2/4
    assert both([1, 0, 0, 0], [True, True, False, False]) == pytest.approx((3 / 4, 3 / 4))


def test_a_dead_unit_tells_nothing():
    labels = np.arange(50) < 8
    assert both(np.zeros(50), labels) == (0.5, 8 / 50)


def test_order_of_rows_does_not_matter_among_ties():
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 3, (40, 5)), rng.random(40) < 0.3
    order = rng.permutation(40)
    np.testing.assert_array_equal(auroc(values, labels), auroc(values[order], labels[order]))
    np.testing.assert_array_equal(average_precision(values, labels), average_precision(values[order], labels[order]))


@settings(max_examples=80, deadline=None)
@given(ROWS)
def test_all_pairs_and_all_thresholds(rows):
    from building_blocks import specialization_slow as slow

    values, labels = [v for v, _ in rows], [own for _, own in rows]
    assert both(values, labels) == pytest.approx((slow.auroc(values, labels), slow.average_precision(values, labels)))


def test_many_units_at_once_equal_the_slow_form(monkeypatch):
    from building_blocks import specialization_slow as slow

    from trialplate.metrics import detection

    rng = np.random.default_rng(1)
    values = np.maximum(rng.normal(size=(60, 7)), 0).astype(np.float32)  # half of them tie at 0
    labels = rng.integers(0, 3, 60)[:, None] == np.arange(3)
    monkeypatch.setattr(detection, "_AT_ONCE", 120)  # two units a block
    area, precision = auroc(values, labels), average_precision(values, labels)
    assert area.shape == precision.shape == (3, 7)
    for k in range(3):
        for i in range(7):
            pair = values[:, i].tolist(), labels[:, k].tolist()
            assert area[k, i] == pytest.approx(slow.auroc(*pair), abs=1e-12)
            assert precision[k, i] == pytest.approx(slow.average_precision(*pair), abs=1e-12)
        np.testing.assert_array_equal(area[k], auroc(values, labels[:, k]))


def test_values_without_relation_have_the_area_one_half_and_the_prevalence():
    rng = np.random.default_rng(2)
    values, labels = rng.normal(size=(2000, 200)), np.arange(2000) < 300
    assert auroc(values, labels).mean() == pytest.approx(0.5, abs=0.005)
    assert average_precision(values, labels).mean() == pytest.approx(0.15, abs=0.005)


def test_zeros_of_both_signs_are_one_score():
    assert both([0.0, -0.0], [True, False]) == (0.5, 0.5)


def test_large_float32_scores_are_not_rounded_together():
    big = np.float32(2**24)
    assert both(np.array([big + 2, big], dtype=np.float32), [True, False]) == (1, 1)


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (np.ones(3), np.array([True, False, True]), "values \\[n, units\\]"),
        (np.ones((3, 1)), np.array([True, False]), "labels \\[n\\]"),
        (np.ones((2, 1)), np.array([1, 0]), "compare: tasks == k"),
        (np.array([[1.0], [np.nan]]), np.array([True, False]), "finite"),
        (np.ones((2, 1)), np.array([True, True]), "column 0 has 2 of 2"),
        (np.ones((2, 1)), np.array([[True, False], [False, False]]), "column 1 has 0 of 2"),
    ],
)
def test_wrong_input_is_named(values, labels, message):
    for measure in (auroc, average_precision):
        with pytest.raises(ValueError, match=message):
            measure(values, labels)
