"""Pictures of the results of studies: the numbers of the file are in them, with their intervals and with what chance shows, and what is missing is said."""

import json

import numpy as np
import pytest
from tests.figures.examples import lines, words
from tests.figures.study_examples import (
    RESULTS,
    cell,
    control_result,
    evaluation,
    scaling_result,
    write_curves,
    write_study,
)

from trialplate.figures.ablation_axes import ablation, ablation_rows
from trialplate.figures.error_scaling import error_scaling, scaling_rows
from trialplate.figures.from_files import plan, plot
from trialplate.figures.frontier import coder_points, frontier, frontier_points
from trialplate.figures.latent_density import density, density_rows
from trialplate.figures.seed_agreement import agreement, arm_rows, statistic_rows
from trialplate.figures.studies import SCHEMA, read_curves, read_study
from trialplate.figures.style import FigureError
from trialplate.figures.training_curves import curve_rows, training_curves
from trialplate.sae.programs.results import SCHEMA as WRITTEN
from trialplate.sae.training_log import METRICS


def study(tmp_path, role, result=None):
    return read_study(write_study(tmp_path, role, RESULTS[role]() if result is None else result), tmp_path)


def segments(axes):
    """Ends of all bars of axes, [[x, y], [x, y]] each."""
    found = [s for c in axes.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    return [np.round(s, 6).tolist() for s in found]


def test_pictures_read_what_studies_write():
    assert SCHEMA == WRITTEN
    assert METRICS == "metrics.ndjson"


@pytest.mark.parametrize(
    ("role", "pictures"),
    [
        ("eval", ["density", "frontier"]),
        ("frontier", ["frontier"]),
        ("phase4a", ["agreement"]),
        ("stability", ["agreement"]),
        ("transcoder", ["agreement"]),
        ("scaling", ["tokens"]),
        ("ablation", ["k"]),
    ],
)
def test_a_run_folder_gives_the_pictures_of_its_role(tmp_path, role, pictures):
    write_study(tmp_path, role, RESULTS[role]())
    planned = plan([tmp_path])
    assert sorted(p.name for p in planned.jobs) == [f"{role}_plot_{word}.png" for word in pictures]
    assert {p.parent for p in planned.jobs} == {tmp_path / "figures"}
    for make in planned.jobs.values():
        assert "m" in words(make().figure)
        assert not make().table.empty


def test_a_picture_is_written_with_its_numbers(tmp_path):
    path = write_study(tmp_path, "stability", RESULTS["stability"]())
    written = plot([path])
    assert [p.name for p in written] == [f"stability_plot_agreement.{e}" for e in ("png", "csv")]
    assert written[0].read_bytes().startswith(b"\x89PNG")


def test_a_study_without_a_picture_is_named(tmp_path):
    write_study(tmp_path, "circuit", {"a": 1})
    with pytest.raises(FigureError, match="no picture of a study of circuit"):
        plan([tmp_path])


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(FigureError, match="wanted the result of a study"):
        plan([write_study(tmp_path, "eval", {}, schema="other/1")])
    (tmp_path / "eval.json").write_text('{"schema": "trialplate-coder-study/1", "result": NaN}')
    with pytest.raises(FigureError, match="NaN is no number"):
        plan([tmp_path / "eval.json"])
    broken = evaluation()
    del broken["core"]["estimates"]["ev"]["ci"]
    with pytest.raises(FigureError, match=r"is no result of eval as pictures read it: KeyError 'ci'"):
        plan([write_study(tmp_path, "eval", broken)])


def test_a_coder_is_drawn_beside_the_random_one(tmp_path):
    picture = frontier(coder_points(study(tmp_path, "eval")))
    axes = picture.figure.axes[0]
    found = lines(axes)
    assert (found["topk"].get_xdata()[0], found["topk"].get_ydata()[0]) == (8.0, 0.9)
    assert found["random coder (learned nothing)"].get_ydata()[0] == 0.2
    assert [[8.0, 0.89], [8.0, 0.91]] in segments(axes)
    assert "no better than the mean of the rows" in words(picture.figure)


def test_halving_the_error_is_one_step_of_the_axis(tmp_path):
    """0, 0.5 and 0.75 lie equally far apart: 1 - EV is 1, 1/2 and 1/4."""
    axes = frontier(frontier_points(study(tmp_path, "frontier"))).figure.axes[0]
    _, y = axes.transData.transform([(8, 0.0), (8, 0.5), (8, 0.75)]).T
    assert y[1] - y[0] == pytest.approx(y[2] - y[1])


def test_targets_that_were_missed_are_hollow_and_missing_ones_named(tmp_path):
    picture = frontier(frontier_points(study(tmp_path, "frontier")))
    found = lines(picture.figure.axes[0])
    assert found["relu, off its target"].get_markerfacecolor() == "white"
    assert found["relu, off its target"].get_xdata().tolist() == [30.0]
    assert found["topk"].get_ydata().tolist() == [0.8, 0.9]
    assert "missing: relu at 64" in words(picture.figure)
    nothing = {"tolerance": 0.1, "cells": [cell("topk", 4, 0, status="missing")]}
    with pytest.raises(FigureError, match="all cells of the frontier are missing"):
        frontier(frontier_points(study(tmp_path, "frontier", nothing)))


def test_targets_are_lines_and_only_filled_points_are_compared(tmp_path):
    picture = frontier(frontier_points(study(tmp_path, "frontier")))
    upright = [line.get_xdata()[0] for line in picture.figure.axes[0].get_lines() if len(set(line.get_xdata())) == 1]
    assert {4.0, 16.0} <= set(upright)
    assert "upper left is better (among filled ones)" in words(picture.figure).replace("\n", " ")


def test_numbers_stay_inside_the_axes(tmp_path):
    """Two targets a factor of 16 apart: the number of the right one stands at its left."""
    cells = {"tolerance": 0.1, "cells": [cell("topk", 4, 0.8), cell("topk", 64, 0.9)]}
    axes = frontier(frontier_points(study(tmp_path, "frontier", cells))).figure.axes[0]
    sides = {text.get_text(): text.get_ha() for text in axes.texts}
    assert (sides["EV 0.800"], sides["EV 0.900"]) == ("left", "right")


def test_perfect_reconstruction_has_a_place(tmp_path):
    perfect = {"tolerance": 0.1, "cells": [cell("topk", 4, 1.0)]}
    picture = frontier(frontier_points(study(tmp_path, "frontier", perfect)))
    assert picture.png().startswith(b"\x89PNG")


def test_densities_are_shares_of_all_latents_the_dead_apart(tmp_path):
    picture = density(density_rows(study(tmp_path, "eval")))
    axes = picture.figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")]
    # 0, 2 and 5 of 8 latents, and one of 8 that never fired
    assert heights[:4] == [0.0, 25.0, 62.5, 12.5]
    assert "dead\n12.5 %" in words(picture.figure)
    assert "learned nothing" in words(picture.figure)
    assert picture.table.groupby("side")["latents"].sum().to_dict() == {"coder": 7.0, "random": 8.0}


def test_a_density_without_a_control_says_nothing_of_one(tmp_path):
    picture = density(density_rows(study(tmp_path, "eval", evaluation(random=False))))
    assert "learned nothing" not in words(picture.figure)


def test_agreement_has_pairs_mean_and_chance(tmp_path):
    picture = agreement(arm_rows(study(tmp_path, "phase4a")), least=0.1)
    left, right = picture.figure.axes
    assert left.get_yticklabels()[0].get_text() == "trained coders"
    assert len(left.get_yticklabels()) == 4
    # chance at 0.2, the mean at 0.6 with an interval, in the row of the trained coders; (0.6 - 0.2) / 0.8 at the right
    assert [[0.2, -0.36], [0.2, 0.36]] in segments(left)
    assert [[0.59, 0.0], [0.61, 0.0]] in segments(left)
    assert [[0.48, 0.0], [0.52, 0.0]] in segments(right)
    assert "0.50" in words(picture.figure)
    assert "least asked: 0.1" in words(picture.figure)
    assert 0.0 in [line.get_xdata()[0] for line in right.get_lines()]


def test_a_twin_that_was_not_trained_has_no_row(tmp_path):
    rows = arm_rows(study(tmp_path, "phase4a", control_result(twin=False)))
    assert rows["group"].nunique() == 3


def test_the_conclusion_of_a_control_is_in_its_title(tmp_path):
    write_study(tmp_path, "phase4a", control_result())
    (make,) = plan([tmp_path]).jobs.values()
    assert "more stable than every control" in make().figure.get_suptitle().replace("\n", " ")


def test_a_control_names_what_trained_coders_are_no_more_stable_than(tmp_path):
    """The gain over the twin is -0.05 +- 0.01, over the others 0.5: only the twin is named."""
    write_study(tmp_path, "phase4a", control_result(conclusion="no_training_signal", over_twin=-0.05))
    (make,) = plan([tmp_path]).jobs.values()
    title = make().figure.get_suptitle().replace("\n", " ")
    assert "no more stable than coders of a random model:" in title


@pytest.mark.parametrize(
    ("result", "subject", "said"),
    [
        ({"rows_seen_in_training": "no"}, {}, "held-out rows"),
        ({"rows_seen_in_training": "unknown"}, {"rows": "a", "held_out": "b"}, "rows (seen in training: unknown)"),
        ({"rows_seen_in_training": "yes"}, {}, "rows (seen in training: yes)"),
        ({}, {}, "rows (seen in training: unknown)"),
        ({}, {"rows": "a", "held_out": "b"}, "held-out rows"),
        ({}, {"rows": "a", "held_out": "a"}, "rows (seen in training: unknown)"),
        (
            {},
            {"sites": {"L1": {"rows": "a", "held_out": "b"}, "L2": {"rows": "a"}}},
            "rows (seen in training: unknown)",
        ),
    ],
)
def test_rows_are_held_out_only_where_the_result_says_so(tmp_path, result, subject, said):
    path = write_study(tmp_path, "eval", result, subject=subject)
    assert read_study(path, tmp_path).rows == said


def test_pictures_of_rows_that_may_have_been_trained_on_do_not_say_held_out(tmp_path):
    write_study(tmp_path, "eval", evaluation(seen="unknown"))
    for make in plan([tmp_path]).jobs.values():
        found = words(make().figure).replace("\n", " ")
        assert "held-out" not in found
        assert "rows (seen in training: unknown)" in found


@pytest.mark.parametrize(
    ("about", "site"),
    [
        ({"subject": {"site_in": "L2.a", "site_out": "L2.a"}}, "L2.a"),
        ({"subject": {"about_rows": {"site_in": "L2.a", "site_out": "L2.b"}}}, "L2.a → L2.b"),
        ({"config": {"rows": {"site_in": "L2.a"}}}, "L2.a"),
        ({}, ""),
    ],
)
def test_the_site_is_read_from_where_it_is_said(tmp_path, about, site):
    assert read_study(write_study(tmp_path, "eval", {}, **about), tmp_path).site == site


def test_a_cosine_of_shared_latents_is_the_one_that_was_asked_for(tmp_path):
    result = {"statistics": {"shared_fraction": RESULTS["stability"]()["statistics"]["matched_cosine"]}}
    path = write_study(tmp_path, "stability", result, config={"options": {"shared_at": 0.8}})
    assert statistic_rows(read_study(path, tmp_path))["group"].iloc[0].endswith("both reach 0.8")


def test_each_similarity_has_the_chance_level_of_its_own(tmp_path):
    left, right = agreement(statistic_rows(study(tmp_path, "stability"))).figure.axes
    assert [[0.2, -0.36], [0.2, 0.36]] in segments(left)
    assert [[0.5, 0.64], [0.5, 1.36]] in segments(left)
    assert "0.00" in [text.get_text() for text in right.texts]


def test_an_ablation_shows_quality_and_agreement_above_chance(tmp_path):
    """(0.36 - 0.2) / 0.8 = 0.2 and (0.6 - 0.2) / 0.8 = 0.5, with their intervals and chance at 0."""
    quality, stable = ablation(ablation_rows(study(tmp_path, "ablation"), "k")).figure.axes
    assert (quality.get_lines()[0].get_xdata().tolist(), quality.get_lines()[0].get_ydata().tolist()) == (
        [4.0, 8.0],
        [0.8, 0.9],
    )
    np.testing.assert_allclose(stable.get_lines()[0].get_ydata(), [0.2, 0.5])
    assert [[4.0, 0.18], [4.0, 0.22]] in segments(stable)
    assert stable.get_lines()[1].get_ydata()[0] == 0
    assert stable.get_ylim()[0] < 0


def test_conditions_without_coders_are_missing_and_one_size_is_no_axis(tmp_path):
    result = RESULTS["ablation"]()
    result["axes"]["k"].append({"value": 16, "condition": "c"})
    result["conditions"]["c"] = {"k": 16, "d_sae": 64, "seeds": [], "status": "missing"}
    assert "2 numbers missing" in words(ablation(ablation_rows(study(tmp_path, "ablation", result), "k")).figure)
    with pytest.raises(FigureError, match="from two sizes on"):
        ablation(ablation_rows(study(tmp_path, "ablation"), "d_sae"))


def test_lost_variance_lies_on_its_power_law(tmp_path):
    picture = error_scaling(scaling_rows(study(tmp_path, "scaling"), "budget"))
    axes = picture.figure.axes[0]
    marks, fitted = axes.get_lines()[:2]
    np.testing.assert_allclose(marks.get_ydata(), [0.04, 0.02, 0.01])
    np.testing.assert_allclose(fitted.get_ydata(), [0.04, 0.02, 0.01])
    # the upper end of EV is the lower end of what is lost
    assert [[100.0, 0.039], [100.0, 0.041]] in segments(axes)
    assert "−0.500 [−0.550, −0.450]" in words(picture.figure)
    assert "slope 0: more does not help" in words(picture.figure)


def test_an_axis_of_errors_has_two_ticks_at_least(tmp_path):
    """All errors within 1 %: the axis spans a factor of 1.15 * 1.25 * 1.01."""
    rows = scaling_rows(study(tmp_path, "scaling"), "budget")
    for lost in np.linspace(0.01, 0.1, 37):
        near = rows.assign(lost=lost, lost_low=lost * 0.995, lost_high=lost * 1.005)
        assert len(error_scaling(near).figure.axes[0].get_yticks()) >= 2


def test_lines_say_what_they_have_so_many_of(tmp_path):
    assert "64 latents" in words(error_scaling(scaling_rows(study(tmp_path, "scaling"), "budget")).figure)


def test_each_site_has_a_picture_of_its_own(tmp_path):
    result = scaling_result()
    result["cells"] += [{**one, "site": "L5"} for one in result["cells"]]
    for fits in result["slopes"].values():
        fits += [{**one, "site": "L5"} for one in fits]
    write_study(tmp_path, "scaling", result)
    assert [p.stem for p in plan([tmp_path]).jobs] == ["scaling_plot_L2_tokens", "scaling_plot_L5_tokens"]
    with pytest.raises(FigureError, match="one site, got L2, L5"):
        error_scaling(scaling_rows(study(tmp_path, "scaling", result), "budget"))


def test_a_grid_with_a_hole_says_what_it_lacks(tmp_path):
    picture = error_scaling(scaling_rows(study(tmp_path, "scaling", scaling_result(hole=True)), "budget"))
    assert "not fitted" in words(picture.figure)
    assert "budget 400 seed 1" in words(picture.figure).replace("\n", " ")
    with pytest.raises(FigureError, match="from two sizes on"):
        error_scaling(scaling_rows(study(tmp_path, "scaling"), "d_sae"))


def test_curves_end_at_held_out_rows(tmp_path):
    curves = read_curves(write_curves(tmp_path / "a"), tmp_path)
    picture = training_curves(curve_rows([curves]))
    loss, ev, l0, dead = picture.figure.axes
    np.testing.assert_allclose(ev.get_lines()[0].get_ydata(), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(ev.get_lines()[0].get_xdata(), [20, 40, 60, 80])
    assert (ev.get_lines()[1].get_xdata()[0], ev.get_lines()[1].get_ydata()[0]) == (80.0, pytest.approx(0.75))
    assert loss.get_yscale() == "linear"
    assert dead.get_ylim()[0] == 0
    assert "held-out rows" in words(picture.figure)
    assert l0.get_ylim()[0] == 0


def test_curves_name_the_model_the_site_and_the_target(tmp_path):
    said = {"config": {"model": "m", "site_in": "L2.a", "site_out": "L2.a"}, "settings": {"l0_target": 12.0}}
    write_curves(tmp_path / "a", **said)
    (make,) = plan([tmp_path / "a"]).jobs.values()
    figure = make().figure
    assert "Training of a: m L2.a" in figure.get_suptitle().replace("\n", " ")
    l0 = figure.axes[2]
    assert 12.0 in [line.get_ydata()[0] for line in l0.get_lines()]
    assert "target: 12" in words(figure)
    assert l0.get_ylim()[1] > 12  # L0 was 8 all along


def test_a_folder_of_runs_says_which_to_give(tmp_path):
    write_study(tmp_path / "one-eval", "eval", evaluation())
    write_curves(tmp_path / "coder")
    with pytest.raises(
        FigureError,
        match=r"is a folder of 2 runs and holds nothing to draw itself; give one of them, such as .*one-eval",
    ):
        plan([tmp_path])


def test_several_trainings_lie_over_each_other(tmp_path):
    folders = [write_curves(tmp_path / name).parent for name in ("a", "b")]
    planned = plan(folders, tmp_path / "out")
    assert [p.name for p in planned.jobs] == ["metrics_plot_curves.png"]
    (make,) = planned.jobs.values()
    assert set(make().table["coder"]) == {"a", "b"}


def test_a_line_that_was_being_written_is_left_out(tmp_path):
    path = write_curves(tmp_path / "a", held_out=False)
    path.write_text(path.read_text() + '{"step": 10, "tok')
    assert len(read_curves(path, tmp_path).lines) == 4
    assert "no numbers on held-out rows yet" in words(training_curves(curve_rows([read_curves(path, tmp_path)])).figure)
    path.write_text('{"step": 10, "tok')
    with pytest.raises(FigureError, match="no whole line"):
        read_curves(path, tmp_path)


def test_a_value_that_was_not_defined_leaves_a_gap(tmp_path):
    path = write_curves(tmp_path / "a", held_out=False)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["ev"] = None  # a batch without variance
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = training_curves(curve_rows([read_curves(path, tmp_path)])).table
    assert table[table["measure"] == "ev"]["step"].tolist() == [2, 6, 8]
