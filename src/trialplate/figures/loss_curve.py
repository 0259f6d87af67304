"""The loss curve of a training: training and validation loss against the step, from the records of the run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any


def loss_curve_png(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A PNG of `loss` and `val_loss` (nats per token) against `step`; records without a value are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, label, style in (("loss", "training", "-"), ("val_loss", "validation", "o-")):
        points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
