"""Sparsity: what is drawn is what is in the table beside it, measures keep to their own axes, and what is undefined is seen."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from tests.figures.examples import lines as drawn_lines
from tests.figures.examples import sparsity, words

from trialplate.figures.sparsity import heat_map, lines, runs, short
from trialplate.figures.style import FigureError


def panel_lines(picture):
    return [drawn_lines(axes) for axes in picture.figure.axes if axes.get_lines()]


def test_the_map_shows_the_values_of_its_table():
    picture = heat_map(sparsity(), "gini", subject="pythia-70m")
    (image,) = picture.figure.axes[0].images
    # tasks 0 and 1, layers 0, 1 and 2: 1 + task + layer / 10
    np.testing.assert_allclose(image.get_array(), [[1.0, 1.1, 1.2], [2.0, 2.1, 2.2]])
    wide = picture.table.pivot(index="task_id", columns="layer", values="value")
    np.testing.assert_array_equal(image.get_array(), wide.to_numpy())


def test_the_map_says_model_measure_site_and_n():
    text = words(heat_map(sparsity(), "gini", subject="pythia-70m").figure)
    for word in ("pythia-70m", "Gini", "mlp_act", "10 documents", "100–101 tokens", "code", "math", "layer"):
        assert word in text


def test_both_kinds_of_positions_share_one_colour_scale():
    table = sparsity(positions=("all", "no_first"))
    table.loc[table["positions"] == "no_first", "value"] *= 3
    picture = heat_map(table, "gini")
    first, second = picture.figure.axes[0].images[0], picture.figure.axes[1].images[0]
    assert first.get_clim() == second.get_clim() == pytest.approx((1.0, 6.6))


def test_maps_of_few_layers_stand_beside_each_other_and_of_many_above():
    def rows(layers):
        axes = heat_map(sparsity(positions=("all", "no_first"), layers=layers), "gini").figure.axes[:2]
        return {a.get_subplotspec().rowspan.start for a in axes}

    assert rows(4) == {0}
    assert rows(20) == {0, 1}


def test_an_undefined_cell_is_left_white_and_said():
    table = sparsity()
    table.loc[1, ["value", "ci_lo", "ci_hi"]] = None
    picture = heat_map(table, "gini")
    assert picture.figure.axes[0].images[0].get_array().mask.sum() == 1
    assert len(picture.table) == 5
    assert "hatched: undefined" in words(picture.figure)


def test_numbers_are_written_into_the_cells_of_small_maps_only():
    assert "2.20" in words(heat_map(sparsity(), "gini").figure)
    assert "2.20" not in words(heat_map(sparsity(layers=20), "gini").figure)


def test_lines_are_the_values_and_bars_the_intervals():
    picture = lines(sparsity(), ["gini"])
    (axes,) = [a for a in picture.figure.axes if a.get_lines()]
    table = picture.table
    for task, line in drawn_lines(axes).items():
        own = table[table["line"] == task]
        np.testing.assert_array_equal(line.get_ydata(), own["value"])
        np.testing.assert_array_equal(np.round(line.get_xdata()), own["layer"])
    bars = np.concatenate([c.get_segments() for c in axes.collections if isinstance(c, LineCollection)])
    ends = {tuple(np.round(bar[:, 1], 9)) for bar in bars}
    # value - 0.1 and value + 0.1 for the six values of two tasks and three layers
    assert ends == {(round(v - 0.1, 9), round(v + 0.1, 9)) for v in (1.0, 1.1, 1.2, 2.0, 2.1, 2.2)}


def test_intervals_of_many_layers_are_bands():
    (axes,) = [a for a in lines(sparsity(layers=20), ["gini"]).figure.axes if a.get_lines()]
    assert len(axes.collections) == 2
    assert not [c for c in axes.collections if isinstance(c, LineCollection)]


def test_measures_of_different_scale_do_not_share_an_axis():
    # a share below 10 beside a dimension in the thousands: on one axis the share would be a line at 0
    picture = lines(sparsity(metrics=("act_frac@0", "pr_cov")), ["act_frac@0", "pr_cov"])
    share, dimension = [a for a in picture.figure.axes if a.get_lines()]
    assert share.get_ylim()[1] < 5 < 500 < dimension.get_ylim()[1]
    assert share.get_ylabel() != dimension.get_ylabel()
    share.set_ylim(0, 1)
    assert dimension.get_ylim()[1] > 500


def test_an_undefined_value_breaks_its_line_and_is_counted():
    table = sparsity()
    table.loc[1, ["value", "ci_lo", "ci_hi"]] = None
    picture = lines(table, ["gini"])
    (found,) = panel_lines(picture)
    assert np.isnan(found["code"].get_ydata()[1])
    assert not np.isnan(found["math"].get_ydata()).any()
    assert "1 of 6 values undefined" in words(picture.figure)
    assert len(picture.table) == 5


def test_more_lines_than_a_legend_can_hold_are_grey_but_the_extremes():
    picture = lines(sparsity(tasks=[f"task_{i}" for i in range(9)]), ["gini"])
    (axes,) = [a for a in picture.figure.axes if a.get_lines()]
    grey = [x for x in axes.get_lines() if x.get_color() == "#7A7A7A"]
    assert len(grey) == 9
    text = words(picture.figure)
    assert "highest: task_8" in text
    assert "lowest: task_0" in text
    assert "task_4" not in text
    assert set(picture.table["line"]) == {f"task_{i}" for i in range(9)}


def test_runs_lie_over_each_other_in_a_panel_a_task():
    picture = runs({"old": sparsity(), "new": sparsity(scale=2.0)}, ["gini"])
    found = panel_lines(picture)
    assert [set(panel) for panel in found] == [{"old", "new"}] * 2
    for panel in found:
        np.testing.assert_allclose(panel["new"].get_ydata(), 2 * panel["old"].get_ydata())


def test_runs_of_one_task_have_a_panel_a_measure():
    both = {name: sparsity(tasks=["code"], metrics=("gini", "pr_cov")) for name in ("old", "new")}
    assert len(panel_lines(runs(both, ["gini", "pr_cov"]))) == 2


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda: heat_map(sparsity(), "hoyer"), "no row with metric = 'hoyer'; there are: gini"),
        (lambda: lines(sparsity(), ["gini"], positions="no_first"), "no row with positions = 'no_first'"),
        (lambda: lines(sparsity(), ["gini"], site="resid_post"), "no site 'resid_post'; there are: mlp_act"),
        (lambda: lines(sparsity().assign(value=None, ci_lo=None, ci_hi=None), ["gini"]), "all 6 values are undefined"),
        (lambda: heat_map(sparsity().drop(columns="site"), "gini"), "it lacks site"),
        (lambda: lines(sparsity().assign(layer=None), ["gini"]), "names no layer"),
        (lambda: runs({"a": sparsity()}, ["gini"]), "from two on"),
        (lambda: runs({"a": sparsity(tasks=["x"]), "b": sparsity(tasks=["y"])}, ["gini"]), "share no task"),
    ],
)
def test_errors_say_what_was_wanted(make, words_):
    with pytest.raises(FigureError, match=words_):
        make()


def test_two_values_in_one_place_are_refused():
    import pandas as pd

    with pytest.raises(FigureError, match="two rows for task_id = code"):
        heat_map(pd.concat([sparsity(), sparsity()]), "gini")


def test_two_kinds_of_site_are_not_mixed():
    table = sparsity()
    table.loc[0, "site"] = "L0.resid_post"
    with pytest.raises(FigureError, match="2 kinds of site"):
        heat_map(table, "gini")
    assert len(heat_map(table, "gini", site="mlp_act").table) == 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (12345.0, "1e4"), (0.0012, "1e-3"), (0.0, "0.00")],
)
def test_numbers_in_cells_are_short(value, text):
    assert short(value) == text
