"""Curves over size, steps and kept shares: values, intervals, the dense level and the ceiling are where the tables say."""

import numpy as np
import pytest
from tests.figures.examples import dynamic_k, dynamic_k_null, lines, scaling, speed, words

from trialplate.figures.dynamic_k import dense_perplexity, quality, quality_runs
from trialplate.figures.scaling import against_size, against_step
from trialplate.figures.style import FigureError
from trialplate.figures.throughput import pareto


def levels(axes, style):
    """y of the horizontal lines of a style across the axes."""
    return sorted(
        x.get_ydata()[0] for x in axes.get_lines() if x.get_linestyle() == style and len(set(x.get_ydata())) == 1
    )


def test_each_model_stands_at_its_last_step():
    picture = against_size(scaling())
    # q_z = size / 1e7 + step / 1000, at step 1000: 2 and 101
    axes = picture.figure.axes[0]
    curve = next(x for x in axes.get_lines() if len(set(x.get_ydata())) > 1)
    np.testing.assert_allclose(curve.get_ydata(), [2.0, 101.0])
    np.testing.assert_allclose(curve.get_xdata(), [1e7, 1e9])
    assert set(picture.table["step"]) == {1000.0}
    ends = np.array([s[:, 1] for s in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, [[1.9, 2.1], [100.9, 101.1]])


def test_z_and_a_share_do_not_share_an_axis():
    z, share = against_size(scaling()).figure.axes
    assert share.get_ylim()[1] < 2 < 50 < z.get_ylim()[1]


def test_the_untrained_model_is_on_the_axis_of_steps():
    picture = against_step(scaling())
    axes = picture.figure.axes[0]
    np.testing.assert_allclose(lines(axes)["small"].get_xdata(), [0, 1000])
    np.testing.assert_allclose(lines(axes)["small"].get_ydata(), [1.0, 2.0])
    assert axes.get_xlim()[0] < 0
    assert len(axes.collections) == 2  # a band a model


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda: against_size(scaling(models=(("small", 1e7),))), "from two sizes on"),
        (lambda: against_step(scaling(steps=(0,))), "from two steps on"),
        (lambda: against_step(scaling(), ["other"]), "no row with metric = 'other'"),
        (lambda: against_size(scaling(models=(("a", 1e7), ("a", 1e8)))), "two rows for model = a"),
    ],
)
def test_an_axis_needs_two_places_and_one_value_in_each(make, words_):
    with pytest.raises(FigureError, match=words_):
        make()


def test_rows_without_a_size_are_counted():
    table = scaling()
    table.loc[0, "n_parameters"] = None
    assert "1 of 8 rows without a value or n_parameters" in words(against_size(table).figure)


def test_quality_curves_are_the_table_with_its_intervals():
    picture = quality(dynamic_k())
    axes = picture.figure.axes[0]
    # 20 * (2 - kept) at 0.2, 0.5 and 1
    np.testing.assert_allclose(lines(axes)["all layers"].get_ydata(), [36.0, 30.0, 20.0])
    np.testing.assert_allclose(lines(axes)["L0 alone"].get_xdata(), [0.2, 0.5, 1.0])
    ends = np.array([s[:, 1] for c in axes.collections for s in c.get_segments()])
    assert {tuple(e) for e in ends} == {(35.0, 37.0), (29.0, 31.0), (19.0, 21.0)}
    assert len(picture.table) == 6


def test_the_dense_level_and_one_percent_above_it_are_drawn():
    axes = quality(dynamic_k()).figure.axes[0]
    assert levels(axes, "--") == [20.0]
    assert levels(axes, ":") == [pytest.approx(20.2)]


def test_the_dense_level_is_said_where_no_line_can_hide_it():
    assert (
        quality(dynamic_k()).figure.axes[0].get_title(loc="left")
        == "top-k of each token\ndashed: dense, 20; dotted: +1 %"
    )


def test_intervals_of_the_change_are_drawn_where_the_table_has_them():
    # between texts perplexity varies by 1; the same texts with and without units vary by 2 % of 20
    table = dynamic_k(scopes=("all",)).assign(dppl_lo=lambda t: t["dppl_pct"] - 2, dppl_hi=lambda t: t["dppl_pct"] + 2)
    picture = quality(table)
    ends = np.array([s[:, 1] for c in picture.figure.axes[0].collections for s in c.get_segments()])
    np.testing.assert_allclose(np.sort(ends[:, 0]), [19.6, 29.6, 35.6])
    np.testing.assert_allclose(np.sort(picture.table["high"]), [20.4, 30.4, 36.4])
    assert "paired by document" in words(picture.figure)


def test_random_units_are_set_beside_all_layers_on_a_scale_of_their_own():
    picture = quality(dynamic_k(), "perplexity", dynamic_k_null())
    above, below = picture.figure.axes
    assert set(lines(below)) == {"all layers", "as many random units"}
    np.testing.assert_allclose(lines(below)["as many random units"].get_ydata(), [200.0, 50.0])
    assert above.get_ylim()[1] < 50 < 200 < below.get_ylim()[1]
    assert picture.table[picture.table["rule"] == "random"]["perplexity"].tolist() == [200.0, 50.0]


def test_a_divergence_of_zero_has_no_place_on_a_log_axis():
    below = quality(dynamic_k(), "kl_to_dense", dynamic_k_null()).figure.axes[1]
    assert below.get_yscale() == "log"
    # 1 - kept at 0.2 and 0.5; at 1 it is 0
    np.testing.assert_allclose(lines(below)["all layers"].get_ydata(), [0.8, 0.5])


def test_the_dense_level_is_inferred_where_no_row_keeps_all():
    table = dynamic_k()
    partial = table[table["kept"] < 1]
    # at kept 0.2 the perplexity is 36, which is 80 % above 20
    assert dense_perplexity(partial) == pytest.approx(20.0)


def test_divergence_starts_at_zero_and_has_a_panel_a_rule():
    picture = quality(dynamic_k(rules=("topk", "threshold")), "kl_to_dense")
    assert len(picture.figure.axes) == 2
    assert levels(picture.figure.axes[0], "--") == [0.0]
    assert "ppl_lo" not in picture.table


def test_many_layers_are_told_by_shade_and_all_layers_by_name():
    picture = quality(dynamic_k(scopes=["all", *[f"L{n}" for n in range(12)]]))
    assert len(lines(picture.figure.axes[0])) == 13
    assert "all layers" in words(picture.figure)
    # intervals of thirteen lines would hide them
    assert sum(len(c.get_segments()) for c in picture.figure.axes[0].collections) == 3


def test_runs_are_compared_over_all_layers():
    picture = quality_runs({"a": dynamic_k(), "b": dynamic_k(dense=30.0)})
    assert set(lines(picture.figure.axes[0])) == {"a", "b"}
    assert set(picture.table["scope"]) == {"all"}
    with pytest.raises(FigureError, match="no rows of scope 'all', only L0"):
        quality_runs({"a": dynamic_k(), "b": dynamic_k(scopes=("L0",))})


def test_a_quantity_that_is_undefined_everywhere_is_no_picture():
    with pytest.raises(FigureError, match="kl_to_dense is undefined in every row"):
        quality(dynamic_k().assign(kl_to_dense=None), "kl_to_dense")


def test_throughput_lies_against_perplexity_below_its_ceiling():
    picture = pareto(speed())
    found = lines(picture.figure.axes[0])
    # kept 0.5 and 0.2 have perplexities 30 and 36
    assert sorted(zip(found["gather-numba"].get_xdata(), found["gather-numba"].get_ydata(), strict=True)) == [
        (30.0, 104.0), (36.0, 110.0),
    ]  # fmt: skip
    # dense 100 tokens per second times 1.1 and 1.2
    np.testing.assert_allclose(found["ceiling (Amdahl)"].get_ydata(), [110.0, 120.0])
    assert found["dense"].get_ydata()[0] == 100.0
    ceiling = picture.table[picture.table["kernel"] == "ceiling"]
    assert sorted(ceiling["tokens_per_second"]) == pytest.approx([110.0, 120.0])


def test_bars_of_throughput_are_its_quartiles():
    segments = [s[:, 1] for c in pareto(speed()).figure.axes[0].collections for s in c.get_segments()]
    assert {tuple(s) for s in segments} == {(94.0, 96.0), (103.0, 105.0), (109.0, 111.0)}


def test_speed_of_the_dense_model_alone_is_no_comparison():
    with pytest.raises(FigureError, match="dense kernel alone"):
        pareto(speed().iloc[:1])
