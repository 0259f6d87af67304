"""Maps of ablations and of heads: values in their cells, zero is white, and what is marked is what deserves it."""

import numpy as np
import pytest
from tests.figures.examples import SUBJECT, ablation, measurement, report, words

from trialplate.figures.ablation import ablation as ablation_picture
from trialplate.figures.heads import head_map, subjects_with_heads
from trialplate.figures.style import FigureError


def heads(scores, **more):
    return report(
        *[
            measurement("prefix_matching", s, stderr=0.01, layer=i, head=j, task="induction", **more)
            for i, row in enumerate(scores)
            for j, s in enumerate(row)
        ]
    )


def test_cells_are_the_loss_beyond_random_units_and_zero_is_white():
    picture = ablation_picture(ablation())
    (image,) = picture.figure.axes[0].images
    # 6 % and 1 %, less the 1 % that random units cost
    np.testing.assert_allclose(image.get_array(), [[5.0, 0.0], [0.0, 5.0]])
    assert image.get_clim() == (-5.0, 5.0)
    assert picture.table["excess"].tolist() == [5.0, 0.0, 0.0, 5.0]


def test_z_is_in_the_cells_and_bold_from_three_on():
    table = ablation()
    table["z"] = [10.0, 2.9, 3.0, None]
    (axes, *_) = ablation_picture(table).figure.axes
    assert {t.get_text(): t.get_fontweight() for t in axes.texts} == {
        "10": "bold", "2.9": "normal", "3.0": "bold", "–": "normal",
    }  # fmt: skip


def test_a_task_that_was_not_evaluated_is_hatched():
    picture = ablation_picture(ablation().iloc[:3])
    assert picture.figure.axes[0].images[0].get_array().mask.sum() == 1
    assert "hatched: not measured" in words(picture.figure)


def test_two_values_of_a_cell_are_refused():
    import pandas as pd

    with pytest.raises(FigureError, match="two rows for one layer"):
        ablation_picture(pd.concat([ablation(), ablation()]))


def test_heads_are_in_their_places_and_the_best_are_framed():
    picture = head_map(heads([[0.1, 0.2, 0.0], [0.9, 0.3, 0.4]]), subject=SUBJECT)
    axes = picture.figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.1, 0.2, 0.0], [0.9, 0.3, 0.4]])
    assert sorted(t.get_text() for t in axes.texts) == ["0.10", "0.20", "0.30", "0.40", "0.90"]
    assert picture.table["value"].tolist() == [0.1, 0.2, 0.0, 0.9, 0.3, 0.4]


def test_the_best_head_of_all_is_not_a_head_of_the_map():
    found = report(
        measurement("prefix_matching", 0.9, head="best", task="t"),
        measurement("prefix_matching", 0.5, layer=0, head=0, task="t"),
    )
    assert len(head_map(found, subject=SUBJECT).table) == 1
    assert subjects_with_heads(found) == [SUBJECT]


def test_a_report_without_heads_says_what_to_run():
    with pytest.raises(FigureError, match="measures prefix_matching of no single head"):
        head_map(report(measurement("accuracy", 0.5)), subject=SUBJECT)
