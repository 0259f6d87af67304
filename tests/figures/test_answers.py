"""Distributions of answers: every item is in a bar, no bar is on both sides of 0, and the share below 0 is written."""

import pandas as pd
import pytest
from tests.figures.examples import SUBJECT, samples, words

from trialplate.figures.answers import checked_samples, differences, read_samples, subjects_with_differences
from trialplate.figures.style import FigureError

VALUES = [-1.0, -0.001, 0.0, 0.001, 2.0, 2.0, 3.0, 9.0]


def test_every_item_is_in_one_bar():
    table = differences(samples(VALUES), subject=SUBJECT).table
    assert table["n_items"].sum() == len(VALUES)


def test_no_bar_lies_on_both_sides_of_zero():
    table = differences(samples(VALUES), subject=SUBJECT).table
    assert not ((table["from"] < 0) & (table["to"] > 0)).any()
    assert table[table["to"] <= 0]["n_items"].sum() == 2


def test_the_share_below_zero_is_written_not_only_the_mean():
    picture = differences(samples(VALUES), subject=SUBJECT)
    # two of eight; a tie at 0 is not below; sum of the values is 15
    assert "25.0 % below 0, mean +1.88, n = 8" in words(picture.figure)
    assert set(picture.table["share_below_0"]) == {0.25}


def test_wrong_answers_have_another_colour():
    axes = differences(samples(VALUES), subject=SUBJECT).figure.axes[0]
    below = {b.get_facecolor() for b in axes.patches if b.get_x() < 0 and b.get_height()}
    above = {b.get_facecolor() for b in axes.patches if b.get_x() >= 0 and b.get_height()}
    assert len(below) == len(above) == 1
    assert below != above


def test_a_panel_a_task_and_order_and_other_tasks_are_left_out():
    table = pd.concat([samples(VALUES), samples(VALUES, order="BABA"), samples(VALUES, task="agreement")])
    picture = differences(table, subject=SUBJECT)
    assert len(picture.figure.axes) == 2
    assert "agreement" not in words(picture.figure)


def test_subjects_are_not_mixed():
    table = pd.concat([samples(VALUES), samples([5.0] * 3, subject="other")])
    assert subjects_with_differences(table) == [SUBJECT, "other"]
    assert differences(table, subject="other").table["n_items"].sum() == 3
    with pytest.raises(FigureError, match="subjects that have some: m"):
        differences(table, subject="nobody")


def test_samples_are_read_as_a_run_writes_them(tmp_path):
    samples(VALUES).to_parquet(tmp_path / "samples.parquet")
    assert len(read_samples(tmp_path / "samples.parquet")) == len(VALUES)
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(FigureError, match="is not a parquet file"):
        read_samples(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    ("change", "words_"),
    [(lambda t: t.drop(columns="params"), "lacks params"), (lambda t: t.assign(value=float("nan")), "not finite")],
)
def test_what_is_no_sample_is_refused(change, words_):
    with pytest.raises(FigureError, match=words_):
        checked_samples(change(samples(VALUES)))
