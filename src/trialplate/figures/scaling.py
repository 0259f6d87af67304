"""Metrics against model size and against training step: a panel a metric, each with its own y axis.

The table is `*_scaling.csv`: model, n_parameters, step, metric, value, ci_lo, ci_hi. Step 0, the untrained model, is kept: the axis is linear
up to step 1 and logarithmic from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialplate.figures.measures import measure
from trialplate.figures.profiles import look
from trialplate.figures.style import (
    BLUE,
    GREY,
    MOST_NAMES,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    is_lowest,
    joined,
    legend_beside,
    named,
    panels,
)
from trialplate.figures.tables import checked, chosen

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HEADLINES = ("q_z", "frac_selective")


def against_size(frame: pd.DataFrame, metrics: Sequence[str] = HEADLINES) -> Picture:
    """Metrics against the number of parameters (log), each model at its last step and named below its mark.

    Raises FigureError for fewer than two sizes, or for a metric that is not in the table.
    """
    rows = _rows(frame, metrics, "n_parameters")
    last = rows.groupby(["model", "metric"])["step"].transform("max")
    rows = rows[(rows["step"] == last) | last.isna()].sort_values("n_parameters", kind="stable")
    if rows["n_parameters"].nunique() < 2:
        raise FigureError(
            f"size is an axis from two sizes on, got {rows['n_parameters'].unique().tolist()}; add models to the table"
        )
    _refuse_twice(rows, ["model", "metric"])
    shown = [m for m in metrics if (rows["metric"] == m).any()]
    footer = joined(_steps(rows), _intervals(rows, "bars"), _left_out(frame, metrics, "n_parameters"))
    with drawing():
        figure = blank(
            max(6.4, 3.9 * min(2, len(shown))), 1.1 + 2.9 * -(-len(shown) // 2), _title(shown, "model size"), footer
        )
        for i, (axes, metric) in enumerate(zip(panels(figure, len(shown), 2, share_x=False), shown, strict=True)):
            own = rows[rows["metric"] == metric]
            axes.plot(own["n_parameters"], own["value"], color=BLUE, marker="o")
            axes.vlines(own["n_parameters"], own["ci_lo"], own["ci_hi"], color=BLUE, linewidth=1.1)
            _size_axis(axes, own)
            _label(axes, metric, len(shown))
            if is_lowest(i, len(shown), 2):
                axes.set_xlabel("parameters (log)")
    return Picture(figure, _table(rows))


def against_step(frame: pd.DataFrame, metrics: Sequence[str] = HEADLINES) -> Picture:
    """Metrics against the training step (log, with step 0), one line a model. Raises FigureError as `against_size`, for steps."""
    rows = _rows(frame, metrics, "step").sort_values("step", kind="stable")
    if rows["step"].nunique() < 2:
        raise FigureError(
            f"training is an axis from two steps on, got {rows['step'].unique().tolist()}; add checkpoints to the table"
        )
    _refuse_twice(rows, ["model", "metric", "step"])
    shown = [m for m in metrics if (rows["metric"] == m).any()]
    models = list(dict.fromkeys(rows.sort_values("n_parameters", kind="stable")["model"]))
    n = f"n = {counted(len(models), 'model')}{' (grey)' if len(models) > MOST_NAMES else ''}, {counted(rows['step'].nunique(), 'step')}"
    footer = joined(n, _intervals(rows, "bands"), _left_out(frame, metrics, "step"))
    with drawing():
        figure = blank(
            max(7.2, 3.9 * min(2, len(shown)) + 1.2),
            1.1 + 2.9 * -(-len(shown) // 2),
            _title(shown, "training step"),
            footer,
        )
        for i, (axes, metric) in enumerate(zip(panels(figure, len(shown), 2), shown, strict=True)):
            for model in models:
                _training_line(axes, rows[(rows["metric"] == metric) & (rows["model"] == model)], model, models)
            _step_axis(axes, float(rows["step"].max()))
            _label(axes, metric, len(shown))
            if is_lowest(i, len(shown), 2):
                axes.set_xlabel("training step (log; 0: untrained)")
        if 1 < len(models) <= MOST_NAMES:
            handles = [h for h in figure.axes[0].get_lines() if not str(h.get_label()).startswith("_")]
            legend_beside(figure, handles, [named(str(h.get_label())) for h in handles], "model")
    return Picture(figure, _table(rows))


def _training_line(axes: Axes, own: pd.DataFrame, model: str, models: Sequence[str]) -> None:
    seen = look(model, models, {})
    axes.plot(own["step"], own["value"], color=seen.colour, marker=seen.marker, label=model)
    ends = own[own["ci_lo"].notna()]
    axes.fill_between(ends["step"], ends["ci_lo"], ends["ci_hi"], color=seen.colour, alpha=0.15, linewidth=0)


def _rows(frame: pd.DataFrame, metrics: Sequence[str], axis: str) -> pd.DataFrame:
    table = checked(frame, "scaling")
    there = [m for m in metrics if (table["metric"] == m).any()]
    if not there:
        chosen(table, "metric", metrics[0] if metrics else "q_z")
    rows = table[table["metric"].isin(there) & table["value"].notna() & table[axis].notna()]
    if rows.empty:
        raise FigureError(f"no row of {', '.join(there)} has both a value and {axis}; there is nothing to draw")
    return rows


def _refuse_twice(rows: pd.DataFrame, key: list[str]) -> None:
    twice = rows.duplicated(key)
    if twice.any():
        row = rows[twice].iloc[0]
        raise FigureError(f"two rows for {', '.join(f'{k} = {row[k]}' for k in key)}; wanted one value for each place")


def _left_out(frame: pd.DataFrame, metrics: Sequence[str], axis: str) -> str:
    table = checked(frame, "scaling")
    table = table[table["metric"].isin(metrics)]
    gone = int((table["value"].isna() | table[axis].isna()).sum())
    return f"{gone} of {len(table)} rows without a value or {axis} left out" if gone else ""


def _title(metrics: Sequence[str], axis: str) -> str:
    return f"{measure(metrics[0]).title} against {axis}" if len(metrics) == 1 else f"How metrics change with {axis}"


def _steps(rows: pd.DataFrame) -> str:
    steps = rows["step"].dropna().unique()
    return f"n = {counted(rows['model'].nunique(), 'model')}" + (
        f" at step {steps[0]:,.0f}" if len(steps) == 1 else ", each at its last step"
    )


def _intervals(rows: pd.DataFrame, marks: str) -> str:
    return f"{marks}: 95 % intervals" if rows["ci_lo"].notna().any() else "no intervals in the table"


def _label(axes: Axes, metric: str, n: int) -> None:
    known = measure(metric)
    axes.set_ylabel(known.axis)
    if n > 1:
        axes.set_title(known.title)
    axes.grid(axis="y")
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.margins(y=0.1)


def _size_axis(axes: Axes, own: pd.DataFrame) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    sizes = own["n_parameters"].to_numpy(float)
    axes.set_xticks(
        sizes, [f"{named(m, 14)}\n{_size(n)}" for m, n in zip(own["model"], sizes, strict=True)], fontsize=7
    )
    axes.margins(x=0.12)


def _size(n: float) -> str:
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.3g}{unit}"
    return f"{n:.0f}"


def _step_axis(axes: Axes, last: float) -> None:
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    decades = [10.0**d for d in range(8) if 10.0**d <= last]
    kept = decades if len(decades) <= 6 else decades[::2] if len(decades) % 2 else [decades[0], *decades[1::2]]
    axes.set_xticks([0, *kept], ["0", *[f"{d:,.0f}" for d in kept]], fontsize=7.5)
    axes.minorticks_off()
    axes.set_xlim(-0.3, last * 1.6)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["model", "n_parameters", "step", "metric", "value", "ci_lo", "ci_hi"]].reset_index(drop=True)
