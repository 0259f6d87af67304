"""Firing rates and Lorenz curves: zero has its own bar, dead and always-on units are told, and curves are those of the table."""

import numpy as np
import pandas as pd
import pytest
from tests.figures.examples import lines, lorenz, units, words

from trialplate.figures.firing import firing_rates
from trialplate.figures.firing import lorenz as lorenz_picture
from trialplate.figures.style import FigureError

RATES = [0.0, 0.0, 1e-7, 0.01, 0.02, 0.5, 0.99, 0.995, 1.0, 1.0]


def bars(axes):
    return [bar.get_height() for bar in axes.patches if type(bar).__name__ == "Rectangle" and bar.get_height() > 0]


def test_every_unit_is_in_one_bar_and_the_table_counts_the_bars():
    picture = firing_rates(units(RATES))
    table = picture.table
    assert table["n_units"].sum() == len(RATES)
    (axes,) = picture.figure.axes
    heights = [p.get_height() for p in axes.patches[-len(table) :]]
    np.testing.assert_allclose(heights, table["percent"])
    np.testing.assert_allclose(sum(heights), 100)


def test_units_that_never_fire_have_a_bar_of_their_own():
    table = firing_rates(units(RATES)).table
    first = table.iloc[0]
    assert (first["rate_above"], first["rate_up_to"], first["n_units"]) == (0.0, 0.0, 2)
    # 1e-7 is dead too, but fires: it has a place on the log axis
    assert table[(table["rate_up_to"] <= 1e-6) & (table["rate_above"] > 0)]["n_units"].sum() == 1


def test_always_on_is_above_099_and_not_at_it():
    last = firing_rates(units(RATES)).table.iloc[-1]
    assert (last["rate_above"], last["rate_up_to"], last["n_units"]) == (0.99, 1.0, 3)


def test_shares_of_dead_and_always_on_are_written():
    # two rates of 0 and one of 1e-7 are below 1e-6; 0.995 and two of 1 are above 0.99
    assert "dead 30.0 %, always on 30.0 %" in words(firing_rates(units(RATES)).figure)


def test_of_several_tasks_the_mean_rate_is_drawn():
    both = pd.concat([units([0.0, 0.2], task="a"), units([0.0, 0.4], task="b")])
    table = firing_rates(both).table
    assert table.loc[table["n_units"] > 0, "n_units"].tolist() == [1, 1]
    drawn = table[(table["n_units"] > 0) & (table["rate_above"] > 0)].iloc[0]
    assert drawn["rate_above"] < 0.3 <= drawn["rate_up_to"]
    assert "mean rate over 2 tasks" in words(firing_rates(both).figure)
    assert "task b" in words(firing_rates(both, task="b").figure)


def test_layers_share_their_axes_and_the_first_and_last_are_shown(monkeypatch):
    monkeypatch.setattr("trialplate.figures.firing.MOST_LAYERS", 3)
    picture = firing_rates(pd.concat([units(RATES, layer=n) for n in range(6)]))
    assert len(picture.figure.axes) == 3
    assert set(picture.table["layer"]) >= {0, 5}
    assert len({axes.get_ylim() for axes in picture.figure.axes}) == 1
    assert "3 of 6 layers shown" in words(picture.figure)


def test_a_rate_outside_its_range_is_refused():
    with pytest.raises(FigureError, match="share of tokens"):
        firing_rates(units([0.5, 1.5]))


def test_lorenz_curves_are_the_tables_and_gini_is_in_the_label():
    picture = lorenz_picture(lorenz())
    curves = lines(picture.figure.axes[0])
    for layer in (0, 1):
        own = picture.table[picture.table["layer"] == layer]
        np.testing.assert_array_equal(curves[f"L{layer}"].get_ydata(), own["share_of_magnitude"])
    # gini = (layer + 1) / (layer + 3)
    legend = words(picture.figure)
    assert "L0   Gini 0.333" in legend
    assert "L1   Gini 0.500" in legend


def test_many_layers_are_told_by_shade_and_keep_their_gini():
    picture = lorenz_picture(lorenz(layers=9))
    assert len(lines(picture.figure.axes[0])) == 9
    assert "L8  Gini 0.82" in words(picture.figure)


def test_tasks_have_a_panel_each_with_the_range_of_gini():
    text = words(lorenz_picture(lorenz(tasks=("code", "math"))).figure)
    assert text.count("Gini 0.33 (L0) – 0.50 (L1)") == 2


def test_a_share_above_one_is_refused():
    with pytest.raises(FigureError, match=r"lie in \[0, 1\]"):
        lorenz_picture(lorenz().assign(share_of_magnitude=2.0))


def test_the_footer_says_which_tokens_are_counted():
    """Capture counts all tokens, a study of sparsity leaves the first of each text out: one picture, two meanings."""
    frame = pd.DataFrame(
        {"task_id": "t", "layer": 0, "site": "L0.mlp_act", "unit": range(9), "rate": 0.1, "mean_abs": 1.0}
    )
    said = {p: words(firing_rates(frame.assign(positions=p)).figure) for p in ("all", "no_first")}
    assert "all positions" in said["all"]
    assert "without position 0" in said["no_first"]
    assert "position" not in words(firing_rates(frame).figure)
