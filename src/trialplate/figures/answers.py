"""Answers one by one: how far the right answer lies above its foil, as a distribution and not only as its mean, from the samples of a report.

The table is `samples.parquet` of a run folder: subject, case, metric, params (JSON), item, value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.style import (
    BLUE,
    INK,
    VERMILLION,
    FigureError,
    Picture,
    blank,
    drawing,
    is_lowest,
    joined,
    named,
    of_subject,
    panels,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SAMPLES = "samples.parquet"
_COLUMNS = ("subject", "metric", "params", "item", "value")
_BINS = 40
MOST_PANELS = 6


def read_samples(path: Path) -> pd.DataFrame:
    """The samples of a run. Raises FigureError for a file that is not such a table, OSError where it cannot be read."""
    import pandas as pd
    import pyarrow

    try:
        frame = pd.read_parquet(path)
    except pyarrow.ArrowInvalid as e:
        raise FigureError(f"{path} is not a parquet file: {e}; give the {SAMPLES} that a run wrote") from e
    return checked_samples(frame, str(path))


def checked_samples(frame: pd.DataFrame, where: str = "the table given") -> pd.DataFrame:
    """The rows, if they are samples with finite values. Raises FigureError."""
    missing = [c for c in _COLUMNS if c not in frame.columns]
    if missing:
        raise FigureError(
            f"{where} holds no samples of a run: it lacks {', '.join(missing)}; wanted {', '.join(_COLUMNS)}, got {', '.join(map(str, frame.columns))}. "
            f"Give the {SAMPLES} of a run folder"
        )
    if not np.isfinite(frame["value"].to_numpy(float)).all():
        raise FigureError(
            f"{where} holds values that are not finite; samples of a report are: the file was edited or damaged"
        )
    return frame


def subjects_with_differences(frame: pd.DataFrame, metric: str = "logit_diff", task: str = "ioi") -> list[str]:
    """The subjects that `differences` can draw."""
    return list(_of_task(frame, metric, task)["subject"].unique())


def differences(frame: pd.DataFrame, *, subject: str, metric: str = "logit_diff", task: str = "ioi") -> Picture:
    """Histogram of an item's difference (right answer minus foil) with the share below 0, a panel for each task whose name starts with `task`
    and each further parameter (the order of the names). One subject. At most 6 panels.

    Raises FigureError where the subject has no such samples, or for more panels than fit.
    """
    import pandas as pd

    rows = _of_task(checked_samples(frame), metric, task)
    there = list(rows["subject"].unique())
    rows = rows[rows["subject"] == subject]
    if rows.empty:
        raise FigureError(
            f"no samples of {metric} on a task {task}* for {subject!r}; subjects that have some: {', '.join(there) or 'none'}"
        )
    groups = list(dict.fromkeys(rows["params"]))
    if len(groups) > MOST_PANELS:
        raise FigureError(
            f"{len(groups)} sets of parameters do not fit one picture (at most {MOST_PANELS}); name a task more exactly than {task!r}"
        )
    edges = _edges(rows["value"].to_numpy(float))
    tables = []
    columns = min(2, len(groups))
    with drawing():
        size = max(6.4, 3.7 * columns), 2.1 * -(-len(groups) // columns) + 1.25
        footer = joined("one value an item", "red: the foil is preferred", "dashed: mean")
        figure = blank(*size, of_subject("Right answer against its foil", subject.replace("|", ", ")), footer)
        axes = panels(figure, len(groups), columns, share_y=True)
        for i, (one, params) in enumerate(zip(axes, groups, strict=True)):
            tables.append(_panel(one, rows.loc[rows["params"] == params, "value"].to_numpy(float), edges, params))
            if is_lowest(i, len(groups), columns):
                one.set_xlabel("logit of the answer − logit of the foil" if metric == "logit_diff" else metric)
            if i % columns == 0:
                one.set_ylabel("items")
        axes[0].set_ylim(top=1.25 * max(int(t["n_items"].max()) for t in tables))
    return Picture(figure, pd.concat(tables, ignore_index=True).assign(subject=subject, metric=metric))


def _of_task(frame: pd.DataFrame, metric: str, task: str) -> pd.DataFrame:
    rows = frame[frame["metric"] == metric]
    return rows[[str(json.loads(p).get("task", "")).startswith(task) for p in rows["params"]]]


def _edges(values: np.ndarray) -> np.ndarray:
    """Bins of equal width, one edge exactly at 0: a bar is either right or wrong."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    width = max(high - low, 1e-9) / _BINS
    return width * np.arange(np.floor(low / width), np.ceil(high / width) + 2)


def _panel(axes: Axes, values: np.ndarray, edges: np.ndarray, params: str) -> pd.DataFrame:
    import pandas as pd

    counts, _ = np.histogram(values, edges)
    # an item at exactly 0 is a tie, and lies in the bar to the right of 0
    below = (values < 0).mean()
    colours = [VERMILLION if edge < 0 else BLUE for edge in edges[:-1]]
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.3)
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.axvline(values.mean(), color=INK, linewidth=1.1, linestyle="--")
    name = named(", ".join(str(v) for v in reversed(json.loads(params).values())), 44)
    axes.set_title(f"{name}\n{100 * below:.1f} % below 0, mean {values.mean():+.2f}, n = {len(values):,}", fontsize=8.5)
    return pd.DataFrame(
        {
            "params": params,
            "from": edges[:-1],
            "to": edges[1:],
            "n_items": counts,
            "share_below_0": below,
            "mean": values.mean(),
            "n": len(values),
        }
    )
