"""Profiles by layer: small panels of values against the layer, one line a task, a run, or what was measured and its null.

Panels that show different measures never share their y axis; panels of one measure do. Intervals are bars, or bands where layers are many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from trialplate.figures.style import (
    BLUE,
    GREY,
    MARKERS,
    MOST_NAMES,
    PALETTE,
    VERMILLION,
    FigureError,
    Picture,
    blank,
    drawing,
    is_lowest,
    joined,
    layer_ticks,
    legend_beside,
    named,
    panels,
    shortened,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 12
"""With more layers than this, intervals are bands: bars would touch."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One axes: the rows with this key, a title in words, the y axis with its unit."""

    key: str
    title: str
    axis: str


@dataclass(frozen=True, slots=True)
class Look:
    """How a line is drawn."""

    colour: str
    marker: str = "o"
    style: Literal["-", "--"] = "-"


@dataclass(frozen=True)
class Plan:
    """What is written around the panels. `line` names what a line is (task, run); `looks` fixes the look of some lines."""

    title: str
    footer: str
    line: str
    share_y: bool = False
    looks: Mapping[str, Look] = field(default_factory=dict)


def profile(rows: pd.DataFrame, panels_: Sequence[Panel], plan: Plan) -> Picture:
    """Values against layers. `rows` has panel, line, layer (whole), value, ci_lo, ci_hi; what is undefined leaves a gap and is counted below.

    More than seven lines are drawn grey and without intervals, but the highest and the lowest of each panel, which are named.
    Raises FigureError when no value is defined.
    """
    from matplotlib.ticker import MaxNLocator

    rows = rows.sort_values("layer", kind="stable")
    defined = rows[rows["value"].notna()]
    if defined.empty:
        raise FigureError(f"{plan.title}: all {len(rows)} values are undefined; there is nothing to draw")
    shown = [p for p in panels_ if (defined["panel"] == p.key).any()]
    lines = list(dict.fromkeys(defined["line"]))
    columns = len(shown) if len(shown) <= 3 else 2 if len(shown) == 4 else 3
    height = -(-len(shown) // columns)
    with drawing():
        size = (max(7.2, 3.5 * columns + 0.6), max(3.6, 2.35 * height + 1.2))
        figure = blank(*size, plan.title, joined(plan.footer, _missing(rows, len(defined), shown, panels_)))
        axes = panels(figure, len(shown), columns, share_y=plan.share_y)
        for i, (one, panel) in enumerate(zip(axes, shown, strict=True)):
            _panel(one, rows[rows["panel"] == panel.key], lines, plan)
            if len(shown) > 1:
                one.set_title("\n".join(_folded_title(panel.title)), pad=22 if len(lines) > MOST_NAMES else None)
            if not plan.share_y or i % columns == 0:
                one.set_ylabel(panel.axis)
            if panel.axis == "count":
                one.yaxis.set_major_locator(MaxNLocator(integer=True))
            if is_lowest(i, len(shown), columns):
                one.set_xlabel("layer")
        hole = None if len(shown) % columns == 0 else divmod(len(shown), columns)
        _legend(figure, axes[0], lines, plan, hole)
    return Picture(figure, defined[["panel", "line", "layer", "value", "ci_lo", "ci_hi"]].reset_index(drop=True))


def _folded_title(title: str) -> list[str]:
    import textwrap

    return textwrap.wrap(title, 36) or [""]


def _missing(rows: pd.DataFrame, n_defined: int, shown: Sequence[Panel], asked: Sequence[Panel]) -> str:
    gaps = len(rows) - n_defined
    text = f"{gaps} of {len(rows)} values undefined, left out" if gaps else ""
    empty = [p.key for p in asked if p not in shown and (rows["panel"] == p.key).any()]
    return joined(text, f"undefined everywhere: {', '.join(empty)}" if empty else "")


def look(line: str, lines: Sequence[str], looks: Mapping[str, Look]) -> Look:
    """The look of a line: the one fixed for it, grey where there are more lines than names, else the next colour and marker."""
    if line in looks:
        return looks[line]
    if len(lines) > MOST_NAMES:
        return Look(GREY, "")
    place = [other for other in lines if other not in looks].index(line)
    return Look(PALETTE[place], MARKERS[place])


def _panel(axes: Axes, rows: pd.DataFrame, lines: Sequence[str], plan: Plan) -> None:
    layers = sorted(rows["layer"].unique())
    bars = len(layers) <= MOST_BARS and len(lines) <= MOST_NAMES
    step = min(0.09, 0.6 / max(1, len(lines)))
    for i, line in enumerate(lines):
        own = rows[rows["line"] == line].sort_values("layer")
        if own["value"].isna().all():
            continue
        if len(lines) > MOST_NAMES:
            own = own.assign(ci_lo=np.nan, ci_hi=np.nan)  # the bands of many lines are one grey field
        _line(axes, own, line, look(line, lines, plan.looks), (i - (len(lines) - 1) / 2) * step if bars else 0.0, bars)
    layer_ticks(axes, layers, layers, most=12 if plan.share_y or len(layers) < 13 else 8)
    axes.set_xlim(layers[0] - 0.6, layers[-1] + 0.6)
    axes.grid(axis="y")
    axes.margins(y=0.1)
    if len(lines) > MOST_NAMES:
        _name_extremes(axes, rows)


def _line(axes: Axes, own: pd.DataFrame, line: str, seen: Look, shift: float, bars: bool) -> None:
    ends = own[own["ci_lo"].notna()]
    if ends.empty:
        shift = 0.0
    places = own["layer"].to_numpy(float) + shift
    marker = seen.marker if len(own) <= MOST_BARS else "." if own["value"].isna().any() else ""
    marker = "_" if len(own) == 1 and not marker else marker  # one place is no line: it needs a mark
    axes.plot(places, own["value"], color=seen.colour, marker=marker, linestyle=seen.style, label=line, zorder=3)
    if ends.empty:
        return
    if bars:
        axes.vlines(ends["layer"] + shift, ends["ci_lo"], ends["ci_hi"], color=seen.colour, linewidth=1.1, zorder=2)
    else:
        axes.fill_between(ends["layer"], ends["ci_lo"], ends["ci_hi"], color=seen.colour, alpha=0.18, linewidth=0)


def _name_extremes(axes: Axes, rows: pd.DataFrame) -> None:
    """The lines that are highest and lowest on average, coloured with their bands, and named above the axes where nothing lies under the words."""
    means = rows.groupby("line", sort=False)["value"].mean()
    for line, colour, word, up in (
        (str(means.idxmax()), VERMILLION, "highest", 12),
        (str(means.idxmin()), BLUE, "lowest", 3),
    ):
        _line(axes, rows[rows["line"] == line], line, Look(colour, ""), 0.0, bars=False)
        axes.annotate(
            f"{word}: {shortened(line, 32)}",
            (0, 1),
            (0, up),
            "axes fraction",
            "offset points",
            color=colour,
            fontsize=7,
        )


def _legend(figure: Figure, axes: Axes, lines: Sequence[str], plan: Plan, hole: tuple[int, int] | None) -> None:
    """Names of the lines: in the empty place of the grid (row, column) where there is one, else at the right."""
    from matplotlib.lines import Line2D

    if len(lines) == 1:
        return
    handles: list[Artist] = []
    names = [named(line) for line in lines]
    if len(lines) > MOST_NAMES:
        handles.append(Line2D([], [], color=GREY))
        names = [f"{len(lines)} {plan.line}s; those\nhighest and lowest\non average are\nnamed, with bands"]
    else:
        for line in lines:
            seen = look(line, lines, plan.looks)
            handles.append(Line2D([], [], color=seen.colour, marker=seen.marker, linestyle=seen.style))
    grid = axes.get_gridspec()
    if hole is None or grid is None:
        legend_beside(figure, handles, names, plan.line)
        return
    empty = figure.add_subplot(grid[hole])
    empty.set_axis_off()
    empty.legend(handles, names, title=plan.line, loc="center left", alignment="left")
