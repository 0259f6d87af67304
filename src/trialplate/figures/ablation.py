"""What a task loses when another task's units are taken out: the causal side of specialization, from `*_ablation.csv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.style import (
    DIVERGING,
    INK,
    FigureError,
    Picture,
    blank,
    drawing,
    evenly,
    is_lowest,
    joined,
    named,
    of_subject,
    panels,
    shortened,
    shown_of,
    written,
)
from trialplate.figures.tables import checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MOST_LAYERS = 4


def ablation(frame: pd.DataFrame, *, subject: str = "") -> Picture:
    """A matrix a layer: rows are the task whose units were ablated, columns the task that was evaluated; own task on the diagonal, framed.

    Colour is the increase of the loss beyond that of random units with the same firing rates (percentage points, 0 is white);
    the number is z, that excess in standard deviations of the random sets, bold from 3 on. At most 4 layers.
    Raises FigureError for two rows of one cell.
    """
    rows = checked(frame, "ablation")
    rows = rows.assign(excess=rows["loss_increase_pct"] - rows["null_mean"], layer=rows["layer"].fillna(-1).astype(int))
    if rows.duplicated(["layer", "ablated_task", "evaluated_task"]).any():
        raise FigureError("two rows for one layer, ablated and evaluated task; wanted one: draw one run at a time")
    there = sorted(rows["layer"].unique())
    layers = evenly(there, MOST_LAYERS)
    rows = rows[rows["layer"].isin(layers)]
    tasks = list(dict.fromkeys([*rows["ablated_task"], *rows["evaluated_task"]]))
    limit = float(rows["excess"].abs().max()) or 1.0
    columns = min(2, len(layers))
    footer = joined(
        "numbers: z against random units of the same firing rate, bold from 3 on",
        "framed: a task's own units",
        "hatched: not measured" if len(rows) < len(layers) * len(tasks) ** 2 else "",
        shown_of(len(layers), len(there), "layers"),
    )
    with drawing():
        side = max(2.3, 0.44 * len(tasks))
        size = max(6.4, columns * (side + 0.35) + 2.9), -(-len(layers) // columns) * (0.86 * side + 0.3) + 2.3
        figure = blank(*size, of_subject("Loss when a task's units are ablated", subject), footer)
        axes = panels(figure, len(layers), columns, share_y=True)
        for i, (one, layer) in enumerate(zip(axes, layers, strict=True)):
            image = _cells(one, rows[rows["layer"] == layer], tasks, limit)
            one.set_title("all layers" if layer < 0 else f"L{layer}")
            if is_lowest(i, len(layers), columns):
                one.set_xticks(range(len(tasks)), [shortened(t) for t in tasks], rotation=90, fontsize=7.5)
                one.set_xlabel("evaluated on")
            if i % columns == 0:
                one.set_yticks(range(len(tasks)), [named(t, 26) for t in tasks], fontsize=7.5)
                one.set_ylabel("ablated units of")
        figure.colorbar(
            image, ax=list(axes), aspect=25, pad=0.02, label="loss increase beyond random\nunits (percentage points)"
        )
    kept = ["layer", "ablated_task", "evaluated_task", "loss_increase_pct", "null_mean", "null_sd", "excess", "z"]
    return Picture(figure, rows[kept].reset_index(drop=True))


def _cells(axes: Axes, rows: pd.DataFrame, tasks: list[str], limit: float) -> AxesImage:
    from matplotlib.patches import Rectangle

    excess, z = (
        rows.pivot(index="ablated_task", columns="evaluated_task", values=c)
        .reindex(index=tasks, columns=tasks)
        .to_numpy(float)
        for c in ("excess", "z")
    )
    axes.patch.set(hatch="////", edgecolor="#BBBBBB")
    image = axes.imshow(np.ma.masked_invalid(excess), cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(z):
        if np.isfinite(excess[i, j]):
            text = _z(value)
            dark = abs(excess[i, j]) > 0.6 * limit
            written(axes, i, j, text, "white" if dark else INK, bold=bool(np.isfinite(value) and value >= 3))
    for i in range(len(tasks)):
        axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=1.1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _z(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{round(value, 1) + 0.0:.1f}"  # + 0.0 turns -0.0 into 0.0
