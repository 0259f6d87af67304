"""Run against run: z in standard errors of the difference, better and worse by the metric's direction, nothing silently dropped."""

import numpy as np
import pytest
from tests.figures.examples import measurement, report, words

from trialplate.figures.regression import compared, regression
from trialplate.figures.style import FigureError

BASE = report(
    measurement("accuracy", 0.5, 0.03),
    measurement("nll", 2.0, 0.3, direction="lower"),
    measurement("count", 3.0, 0.4, direction="none"),
    measurement("same", 1.0, 0.1),
    measurement("bare", 1.0, None),
    name="old",
)
NOW = report(
    measurement("accuracy", 0.75, 0.04),
    measurement("nll", 4.0, 0.4, direction="lower"),
    measurement("count", 2.5, 0.3, direction="none"),
    measurement("same", 1.0, 0.1),
    measurement("bare", 2.0, None),
    measurement("only_now", 1.0, 0.1),
    name="new",
)


def test_differences_are_in_standard_errors_of_the_difference():
    rows = compared(BASE, NOW).set_index("metric")
    # 0.25 / hypot(0.03, 0.04) = 0.25 / 0.05; 2 / hypot(0.3, 0.4) = 2 / 0.5; -0.5 / 0.5
    assert rows["z"].drop("bare").to_dict() == pytest.approx({"accuracy": 5.0, "nll": 4.0, "count": -1.0, "same": 0.0})
    assert np.isnan(rows["z"]["bare"])
    assert rows["change"].to_dict() == {
        "accuracy": "better", "nll": "worse", "count": "no direction", "same": "unchanged", "bare": "better",
    }  # fmt: skip


def test_the_picture_is_sorted_and_has_lines_at_two():
    picture = regression(BASE, NOW)
    assert picture.table["metric"].tolist() == ["count", "same", "nll", "accuracy"]
    _, below = picture.figure.axes
    # what did not change has a mark above and needs no name
    np.testing.assert_allclose(below.collections[1].get_offsets()[:, 0], [-1.0, 4.0, 5.0])
    bounds = {x.get_xdata()[0] for x in below.get_lines() if x.get_linestyle() == "--"}
    assert bounds == {-2.0, 2.0}


def test_what_has_no_standard_error_is_counted_and_named_where_it_changed():
    text = words(regression(BASE, NOW).figure).replace("\n", " ")
    assert "1 more without a standard error, 1 of them changed (bare)" in text
    assert "4 shared measurements, 2 beyond ±2" in text


def test_huge_changes_keep_the_lines_at_two_apart():
    picture = regression(report(measurement("a", 0.0, 0.001)), report(measurement("a", 9.0, 0.001)))
    axes = picture.figure.axes[-1]
    assert axes.get_xscale() == "symlog"
    left, right = (axes.transData.transform((x, 0))[0] for x in (-2, 2))
    assert right - left > 0.05 * axes.get_window_extent().width


def test_two_models_are_compared_where_each_run_has_one():
    rows = compared(report(measurement("a", 1.0, subject="x|cpu")), report(measurement("a", 2.0, subject="y|cpu")))
    assert len(rows) == 1


def test_of_several_subjects_each_is_compared_with_itself():
    base = report(measurement("a", 1.0, subject="x"), measurement("a", 2.0, subject="y"))
    now = report(measurement("a", 1.5, subject="y"), measurement("a", 3.0, subject="z"))
    rows = compared(base, now)
    assert rows["difference"].tolist() == [-0.5]


def test_runs_that_are_equal_are_a_picture_of_nothing_changed():
    picture = regression(BASE, BASE)
    assert len(picture.figure.axes) == 1
    assert "4 unchanged" in words(picture.figure)
    assert picture.png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("current", "words_"),
    [
        (report(measurement("other", 1.0)), "share no measurement"),
        (report(measurement("bare", 2.0, None)), "none of 1 shared measurements has a standard error"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(current, words_):
    with pytest.raises(FigureError, match=words_):
        regression(BASE, current)
