"""How the error of coders falls with tokens and with width: the share of variance that is lost against size, both logarithmic, with the fitted power law.

A slope of -0.1 says that ten times as much leaves 10^-0.1 = 79 % of the error; a slope of 0 says that more does not help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialplate.figures.studies import Study, spread
from trialplate.figures.style import (
    GREY,
    MARKERS,
    MOST_NAMES,
    PALETTE,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    joined,
    legend_beside,
    of_subject,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLUMNS = (
    *("axis", "site", "at", "size", "lost", "lost_low", "lost_high"),
    *("slope", "slope_low", "slope_high", "intercept", "n_seeds", "lacks"),
)
AXES = {
    "budget": ("d_sae", "different tokens trained on (log)", "latents"),
    "d_sae": ("budget", "latents (log)", "tokens"),
}
"""What size is, what the lines hold fixed, the label of the axis, and what a line has so many of."""
_NO_SLOPE = "slope 0: more does not help"
_TICKS = ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.3, 2.6, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9))
"""Ticks of a decade, from few to many; of the last, two at least lie within any factor of 1.4."""


def scaling_rows(study: Study, axis: str) -> pd.DataFrame:
    """The cells of `scaling.json` along one axis ("budget" or "d_sae"), each with the slope of the line that it belongs to. Cells that are missing have no
    number, and lines without a fit no slope."""
    import pandas as pd

    other = AXES[axis][0]
    with study.read() as result:
        fits = {(one["site"], one[other]): one for one in result["slopes"][axis]}
        rows = [_row(axis, cell, fits[cell["site"], cell[other]], other) for cell in result["cells"]]
    numbers = [name for name in COLUMNS if name not in ("axis", "site", "lacks")]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(numbers, float))


def has_sizes(study: Study, axis: str) -> bool:
    """Whether a study has two sizes or more along an axis."""
    with study.read() as result:
        return len({cell[axis] for cell in result["cells"] if cell["status"] == "measured"}) > 1


def error_scaling(rows: pd.DataFrame, *, subject: str = "", judged: str = "rows") -> Picture:
    """Lost variance against size at one site, a line for each value of the other size; its slope with the interval in the legend. `judged`: what the rows
    are called that it was measured on.

    FigureError for fewer than two sizes, several sites, or more lines than are told apart."""
    shown = rows[rows["lost"].notna() & (rows["lost"] > 0)]
    if shown["size"].nunique() < 2:
        raise FigureError(f"size is an axis from two sizes on, got {sorted(shown['size'].unique())}; extend the grid")
    axis = str(rows["axis"].iloc[0])
    if shown["site"].nunique() > 1:
        raise FigureError(f"a picture shows one site, got {', '.join(shown['site'].unique())}; draw them one by one")
    lines: list[float] = sorted(shown["at"].unique())
    if len(lines) > MOST_NAMES:
        raise FigureError(f"{len(lines)} lines on one axis are not told apart; draw at most {MOST_NAMES}")
    what = {"budget": "tokens", "d_sae": "width"}[axis]
    with drawing():
        figure = blank(8.6, 4.6, of_subject(f"Variance lost against {what}", subject), _footer(rows, shown))
        axes = figure.add_subplot()
        names = [_line(axes, shown[shown["at"] == one].sort_values("size"), axis, i) for i, one in enumerate(lines)]
        level = _axes(axes, shown, axis, judged)
        handles = [axes.get_lines()[i * 2] for i in range(len(lines))]
        legend_beside(figure, [*handles, level], [*names, _NO_SLOPE], "slope [95 % over seeds]")
    return Picture(figure, rows.reset_index(drop=True))


def _line(axes: Axes, own: pd.DataFrame, axis: str, number: int) -> str:
    """Marks with their intervals, the fitted line; returns the name in the legend."""
    colour, first = PALETTE[number], own.iloc[0]
    fitted = first["slope"] == first["slope"]
    axes.plot(own["size"], own["lost"], linestyle="none", marker=MARKERS[number], color=colour, markersize=6, zorder=3)
    x = own["size"].to_numpy()
    y = [math.exp(first["intercept"] + first["slope"] * math.log(size)) for size in x] if fitted else own["lost"]
    axes.plot(x, y, color=colour, linestyle="-" if fitted else ":", linewidth=1.3)
    low, high = own["lost_low"].fillna(own["lost"]), own["lost_high"].fillna(own["lost"])
    axes.vlines(own["size"], low, high, color=colour, linewidth=1.6)
    name = f"{first['at']:,.0f} {AXES[axis][2]}"
    if not fitted:
        return f"{name}\nnot fitted"
    ends = "" if first["slope_low"] != first["slope_low"] else f" [{first['slope_low']:.3f}, {first['slope_high']:.3f}]"
    return f"{name}\n{first['slope']:.3f}{ends}".replace("-", "−")


def _axes(axes: Axes, shown: pd.DataFrame, axis: str, judged: str) -> Line2D:
    """Scales, ticks and labels; returns the line of what would be if more did not help."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    sizes = sorted(shown["size"].unique())
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    low = float(shown["lost_low"].fillna(shown["lost"]).clip(lower=1e-9).min())
    high = float(shown["lost_high"].fillna(shown["lost"]).max())
    axes.set_ylim(low / 1.15, high * 1.25)
    axes.yaxis.set_major_locator(FixedLocator(_ticks(*axes.get_ylim())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.margins(x=0.08)
    top = float(shown.loc[shown["size"] == sizes[0], "lost"].max())
    level = axes.axhline(top, color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.set_xlabel(AXES[axis][1])
    axes.set_ylabel(f"variance lost on {judged}, 1 − EV (log)")
    return level


def _ticks(low: float, high: float) -> list[float]:
    """Where ticks are: three or more, two where the axis is too short for that."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tiers = [[tick * 10.0**d for d in decades for tick in tier if low <= tick * 10.0**d <= high] for tier in _TICKS]
    return next((found for found in tiers if len(found) > 2), tiers[-1])


def _footer(rows: pd.DataFrame, shown: pd.DataFrame) -> str:
    lacks: Sequence[str] = sorted({text for text in rows["lacks"] if text})
    gone = len(rows) - len(shown)
    seeds = sorted({int(n) for n in shown["n_seeds"].dropna()})
    return joined(
        f"n = {counted(len(shown), 'cell')}" + (f" of {seeds[0]} seeds" if len(seeds) == 1 else ""),
        "marks: mean over seeds; bars: 95 % intervals; lines: fitted power law",
        f"{counted(gone, 'cell')} missing" if gone else "",
        f"not fitted for want of {'; '.join(lacks)}" if lacks else "",
    )


def _row(axis: str, cell: Mapping[str, Any], line: Mapping[str, Any], other: str) -> tuple[Any, ...]:
    ev = spread(cell["ev"]) if cell["status"] == "measured" else spread(None)
    ends = (None, None) if ev.low is None or ev.high is None else (1 - ev.high, 1 - ev.low)
    fit = line["fit"]
    slope = spread(fit["slope"]) if fit else spread(None)
    intercept = fit["intercept"]["value"] if fit else None
    lacks = ", ".join(line["lacks"])
    return (
        axis,
        cell["site"],
        cell[other],
        cell[axis],
        1 - ev.value,
        *ends,
        *slope,
        intercept,
        len(cell["seeds"]),
        lacks,
    )
