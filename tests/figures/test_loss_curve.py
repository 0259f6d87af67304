"""The loss curve: which values are drawn, and that a run without any still has a picture."""

import pytest

from trialplate.figures.loss_curve import loss_curve_png

RECORDS = [
    {"step": 1, "loss": 3.0},
    {"step": 2, "loss": None, "val_loss": 2.5},
    {"step": 3, "loss": 2.0, "val_loss": 2.0},
]


def test_both_curves_are_drawn_from_the_values_there_are(monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *a, **k: drawn.append((x, y)) or plot(self, x, y, *a, **k))
    assert loss_curve_png(RECORDS).startswith(b"\x89PNG")
    assert drawn == [((1, 3), (3.0, 2.0)), ((2, 3), (2.5, 2.0))]


@pytest.mark.parametrize("records", [[], [{"step": 1, "loss": None}]])
def test_a_run_without_values_has_an_empty_picture(records):
    assert loss_curve_png(records).startswith(b"\x89PNG")
