"""Sparsity by layer and task: a heat map of one measure, its line version with intervals, and several runs over each other.

The table is `*_sparsity.csv` (figures/tables.py). Measures differ by orders of magnitude (a share is below 1, a dimension is in the hundreds),
so each measure has axes, and a colour scale, of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trialplate.figures.measures import measure
from trialplate.figures.profiles import Panel, Plan, profile
from trialplate.figures.style import (
    INK,
    SHADES,
    FigureError,
    Picture,
    between,
    blank,
    counted,
    drawing,
    joined,
    layer_ticks,
    named,
    of_subject,
    part_cells,
    written,
)
from trialplate.figures.tables import POSITIONS, at_site, checked, chosen

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

_WRITTEN_CELLS = 12
"""Up to so many layers the numbers are written into the cells."""


_BESIDE = 8
"""Up to so many layers the two maps stand beside each other."""


def heat_map(frame: pd.DataFrame, metric: str, *, subject: str = "", site: str | None = None) -> Picture:
    """One measure, tasks against layers; all positions first, then without position 0, on one colour scale where both were measured.

    An undefined cell is hatched. Raises FigureError for a table that is not one of sparsity, or without this metric.
    """
    rows = _unique(at_site(chosen(checked(frame, "sparsity"), "metric", metric), site), "task_id")
    if rows["value"].isna().all():
        raise FigureError(f"{metric}: all {len(rows)} values are undefined; there is nothing to draw")
    kinds = [p for p in POSITIONS if (rows["positions"] == p).any()]
    tasks, layers = list(dict.fromkeys(rows["task_id"])), sorted(rows["layer"].unique())
    known = measure(metric)
    across = len(kinds) if len(layers) <= _BESIDE else 1
    with drawing():
        width = min(11.0, max(6.4, 2.6 + (0.62 if len(layers) <= _WRITTEN_CELLS else 0.34) * len(layers) * across))
        size = width, 1.45 + len(kinds) // across * (0.34 * len(tasks) + 0.5)
        figure = blank(*size, of_subject(f"{known.title} by task and layer", subject), _heat_footer(rows))
        ends = rows["value"].min(), rows["value"].max()
        axes = figure.subplots(len(kinds) // across, across, sharex=True, sharey=True, squeeze=False).ravel()
        for one, positions in zip(axes, kinds, strict=True):
            cells = rows[rows["positions"] == positions].pivot(index="task_id", columns="layer", values="value")
            image = _cells(one, cells.reindex(index=tasks, columns=layers).to_numpy(float), ends)
            one.set_title(POSITIONS[positions])
        axes[0].set_yticks(range(len(tasks)), [named(t, 24) for t in tasks])
        layer_ticks(axes[-1], range(len(layers)), layers, most=24)
        for one in axes[-across:]:
            one.set_xlabel("layer")
        figure.colorbar(image, ax=list(axes), label=known.axis, aspect=22, pad=0.015)
    keep = ["task_id", "layer", "site", "positions", "metric", "value", "n_tokens", "n_docs"]
    return Picture(figure, rows[rows["value"].notna()][keep].reset_index(drop=True))


def _cells(axes: Axes, values: NDArray[np.float64], ends: tuple[float, float]) -> AxesImage:
    import numpy as np

    axes.set_facecolor("white")
    axes.patch.set(hatch="////", edgecolor="#BBBBBB")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=SHADES, vmin=ends[0], vmax=ends[1], aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    part_cells(axes, *values.shape)
    if values.shape[1] <= _WRITTEN_CELLS:
        middle = sum(ends) / 2
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = INK if value > middle else "white"
                written(axes, row, column, short(value), colour)
    return image


def short(value: float) -> str:
    """A value in at most five characters: two digits after the point below 10, fewer above, none from 100 on."""
    size = abs(value)
    if size >= 10_000:
        return f"{value:.0e}".replace("e+0", "e")
    if size and size < 0.005:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def lines(
    frame: pd.DataFrame,
    metrics: Sequence[str],
    *,
    subject: str = "",
    positions: str | None = None,
    site: str | None = None,
) -> Picture:
    """Measures against the layer with their intervals: a panel a measure, each with its own y axis, one line a task.

    `positions` is `all` or `no_first`; by default no_first, or what was measured. Raises FigureError as `heat_map`.
    """
    table = at_site(checked(frame, "sparsity"), site)
    wanted = positions or _usual_positions(table)
    table = chosen(table, "positions", wanted)
    rows = _unique(_of_metrics(table, metrics), "task_id").assign(
        panel=lambda t: t["metric"], line=lambda t: t["task_id"]
    )
    tasks = list(dict.fromkeys(rows["task_id"]))
    title = measure(metrics[0]).title if len(metrics) == 1 else "Sparsity"
    who = subject if len(tasks) > 1 else joined_name(subject, tasks[0])
    plan = Plan(of_subject(f"{title} by layer", who), joined(_footer(rows, wanted), _counts(rows)), "task")
    return profile(rows, [Panel(m, *measure(m)) for m in metrics], plan)


def runs(
    frames: Mapping[str, pd.DataFrame],
    metrics: Sequence[str],
    *,
    positions: str | None = None,
    site: str | None = None,
) -> Picture:
    """Several runs over each other, one line a run: a panel a task for one metric, or a panel a metric where there is one task.

    Raises FigureError for fewer than two runs, several tasks with several metrics, or no task that two runs share.
    """
    import pandas as pd

    if len(frames) < 2:
        raise FigureError(f"runs are compared from two on, got {len(frames)}; draw one alone with `lines`")
    tables = {name: at_site(checked(f, "sparsity", f"run {name}"), site, f"run {name}") for name, f in frames.items()}
    both = pd.concat([_of_metrics(t, metrics).assign(line=name) for name, t in tables.items()], ignore_index=True)
    wanted = positions or _usual_positions(both)
    both = _unique(chosen(both, "positions", wanted), "task_id", "line")
    shared = both.groupby("task_id", sort=False)["line"].nunique()
    tasks = [t for t in shared.index if shared[t] > 1]
    if not tasks:
        raise FigureError(
            f"the runs {', '.join(frames)} share no task; of each other they show nothing: draw one at a time"
        )
    if len(tasks) > 1 and len(metrics) > 1:
        raise FigureError(
            f"{len(tasks)} tasks and {len(metrics)} metrics do not fit one picture of runs; name one metric"
        )
    rows = both[both["task_id"].isin(tasks)]
    alone = len(metrics) == 1
    rows = rows.assign(panel=rows["task_id"] if alone else rows["metric"])
    shown = (
        [Panel(t, named(t, 34), measure(metrics[0]).axis) for t in tasks]
        if alone
        else [Panel(m, *measure(m)) for m in metrics]
    )
    what = measure(metrics[0]).title if alone else f"Sparsity on {tasks[0]}"
    plan = Plan(
        f"{what} by layer: {len(frames)} runs", joined(_footer(rows, wanted), _counts(rows)), "run", share_y=alone
    )
    return profile(rows, shown, plan)


def joined_name(subject: str, task: str) -> str:
    """`pythia-70m, code`."""
    return f"{subject}, {task}" if subject else task


def _usual_positions(table: pd.DataFrame) -> str:
    there = list(dict.fromkeys(table["positions"]))
    return "no_first" if "no_first" in there else there[0]  # very large activations sit on position 0


def _of_metrics(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    for metric in metrics:
        chosen(table, "metric", metric)
    return table[table["metric"].isin(metrics)]


def _unique(rows: pd.DataFrame, *also: str) -> pd.DataFrame:
    """Refuses two values for one place of the picture."""
    key = [*also, "layer", "site", "positions", "metric"]
    twice = rows.duplicated(key)
    if twice.any():
        row = rows[twice].iloc[0]
        raise FigureError(
            f"two rows for {', '.join(f'{k} = {row[k]}' for k in key)}; a picture shows one value in a place: draw the runs as runs"
        )
    return rows


def _site_of(rows: pd.DataFrame) -> str:
    from trialplate.figures.tables import site_kind

    return f"site {site_kind(rows['site'].iloc[0])}"


def _footer(rows: pd.DataFrame, positions: str) -> str:
    bars = (
        "bars and bands: 95 % intervals over documents" if rows["ci_lo"].notna().any() else "no intervals in the table"
    )
    return joined(_site_of(rows), POSITIONS.get(positions, positions), bars)


def _heat_footer(rows: pd.DataFrame) -> str:
    return joined(_site_of(rows), _counts(rows), "hatched: undefined" if rows["value"].isna().any() else "")


def _counts(rows: pd.DataFrame) -> str:
    n_tasks = rows["task_id"].nunique()
    of_task = rows.groupby("task_id")["n_tokens"].max()  # some measures are of a sample of the tokens of a task
    tokens = between(of_task.min(), of_task.max(), "token")
    documents = between(rows["n_docs"].min(), rows["n_docs"].max(), "document")
    return f"n = {documents}, {tokens}" + (f" a task, {counted(n_tasks, 'task')}" if n_tasks > 1 else "")
