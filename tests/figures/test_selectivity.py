"""Specialization: the null lies under the index, units are ordered by the task they prefer, and values by layer carry their null."""

import numpy as np
import pytest
from tests.figures.examples import lines, si, si_rates, si_units, words

from trialplate.figures.selectivity import rate_matrix, si_layers, si_null, si_runs
from trialplate.figures.style import FigureError


def test_both_histograms_count_the_scored_units():
    picture = si_null(si_units([0.1, 0.2, 0.9, 0.5], [0.01, 0.02, 0.03, 0.5], scored=[1, 1, 1, 0]))
    counts = picture.table.groupby("which")["n_units"].sum()
    assert counts.to_dict() == {"measured": 3, "documents permuted": 3}
    means = picture.table.groupby("which")["mean"].first()
    assert means.to_dict() == pytest.approx({"measured": 0.4, "documents permuted": 0.02})
    text = words(picture.figure)
    assert "3 of 4 units scored" in text
    assert "documents\npermuted" in text


def test_steps_drawn_are_the_counts_of_the_table():
    picture = si_null(si_units([0.1, 0.2, 0.9], [0.01, 0.02, 0.03]))
    own = picture.table[picture.table["which"] == "measured"]
    drawn = [s.get_data() for s in picture.figure.axes[0].patches if type(s).__name__ == "StepPatch"]
    assert any(np.array_equal(d.values, own["n_units"]) and np.array_equal(d.edges[:-1], own["si_from"]) for d in drawn)


def test_an_index_that_is_negative_has_a_place():
    # the Miller-Madow correction can take an unselective unit below 0
    table = si_null(si_units([-0.05, 0.2], [0.0, 0.01])).table
    assert table["si_from"].min() == pytest.approx(-0.05)
    assert table[table["which"] == "measured"]["n_units"].sum() == 2


def test_no_scored_unit_is_no_picture():
    with pytest.raises(FigureError, match="none of 2 units fired often enough"):
        si_null(si_units([0.1, 0.2], [0.0, 0.0], scored=[0, 0]))


def test_units_are_ordered_by_preferred_task_then_by_strength():
    # shares on code: 0.25, 0.9, 0.6; preferred: math 0.75, code 0.9, code 0.6
    picture = rate_matrix(si_rates([[0.1, 0.3], [0.9, 0.1], [0.3, 0.2]]))
    (image,) = picture.figure.axes[0].images
    # rate over mean rate is twice the share; of two tasks the colours end at half and at twice the mean
    clipped = [[1.8, 0.5], [1.2, 0.8], [0.5, 1.5]]
    np.testing.assert_allclose(image.get_array(), np.log2(clipped))
    first = picture.table[picture.table["row"] == 0].set_index("task_id")
    assert set(first["unit"]) == {1}
    assert first["share"].to_dict() == pytest.approx({"code": 0.9, "math": 0.1})
    assert first["times_mean"].to_dict() == pytest.approx({"code": 1.8, "math": 0.2})


def test_no_preference_is_the_middle_of_the_colours():
    (image,) = rate_matrix(si_rates([[0.2, 0.2, 0.2, 0.2]], tasks="abcd")).figure.axes[0].images
    np.testing.assert_allclose(image.norm(image.get_array()), 0.5)
    assert image.get_clim() == (-2.0, 2.0)


def test_units_that_are_silent_or_not_scored_are_left_out_and_said():
    rates = si_rates([[0.0, 0.0], [0.9, 0.1], [0.3, 0.2]])
    picture = rate_matrix(rates, si_units([0.1] * 3, [0.0] * 3, scored=[1, 1, 0]))
    assert set(picture.table["unit"]) == {1}
    assert "scored units only" in words(picture.figure)
    assert "1 unit never fire" in words(rate_matrix(rates).figure)


@pytest.mark.parametrize(
    ("table", "words_"),
    [
        (si_rates([[0.1]], tasks=("code",)), "at least two tasks"),
        (si_rates([[0.1, 0.2], [0.1, 0.2]]).iloc[:3], "unit 1 of layer 0 has no rate on some"),
        (si_rates([[0.0, 0.0]]), "no unit fires"),
    ],
)
def test_a_matrix_needs_tasks_and_rates(table, words_):
    with pytest.raises(FigureError, match=words_):
        rate_matrix(table)


def test_the_null_is_drawn_beside_what_has_one():
    picture = si_layers(si())
    panels = {a.get_title(loc="left"): lines(a) for a in picture.figure.axes if a.get_lines()}
    index = panels["Specialization index"]
    np.testing.assert_allclose(index["measured"].get_ydata(), [0.2, 0.21])
    np.testing.assert_allclose(index["documents permuted"].get_ydata(), [0.01, 0.02])
    assert set(panels["Specialization beyond its null"]) == {"measured"}


def test_runs_are_lines_of_one_panel_a_metric():
    picture = si_runs({"trained": si(shift=0.2), "random": si()})
    assert set(picture.table["line"]) == {"trained", "random"}
    assert set(picture.table["panel"]) == {"si_excess", "frac_selective", "si_coverage"}


def test_a_table_without_any_of_the_metrics_is_refused():
    with pytest.raises(FigureError, match="needs one of the metrics"):
        si_layers(si().assign(metric="other"))
