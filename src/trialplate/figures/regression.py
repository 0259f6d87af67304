"""Run against run: every measurement that two reports share, current minus baseline, in standard errors of the difference.

z = (current - baseline) / sqrt(se_current^2 + se_baseline^2). Two runs on the same items vary together, so that z errs towards 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    VERMILLION,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    joined,
)
from trialplate.report.model import Measurement, Report, params_key

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_NAMED = 30
LINES = 2.0
_COLOURS = {"better": BLUE, "worse": VERMILLION, "no direction": INK, "unchanged": GREY}
_WIDE = 15.0
"""Beyond this |z| the axis is logarithmic outside -4 and 4, or the lines at 2 would lie on each other."""
Key = tuple[str, str, str]


def compared(baseline: Report, current: Report) -> pd.DataFrame:
    """One row a shared measurement: case, metric, params, both values and standard errors, difference, z, and whether that is better or worse.

    z is empty where neither run has a standard error above 0 and where one has none at all: such a difference cannot be put in standard errors.
    Measurements belong together under case, metric and params of the same subject; where each report has one subject, of that one.
    Raises FigureError when nothing is shared.
    """
    import pandas as pd

    ours, theirs = _by_key(current, _names(current, baseline)), _by_key(baseline, _names(baseline, current))
    shared = [k for k in ours if k in theirs]
    if not shared:
        raise FigureError(
            f"the runs {baseline.run.id} and {current.run.id} share no measurement (case, metric and params of {len(theirs)} and {len(ours)}); "
            "compare runs of the same evals on the same subject"
        )
    return pd.DataFrame([_row(key, theirs[key], ours[key]) for key in shared])


def regression(baseline: Report, current: Report) -> Picture:
    """The measurements with the largest |z|, sorted, with lines at -2 and 2, and above them where all of them lie.

    Blue is better, red is worse, by the metric's own direction. At most 30 are named; the table has all that have a z.
    Raises FigureError when nothing is shared, or when no shared measurement has a standard error.
    """
    table = compared(baseline, current)
    known = table[table["z"].notna()]
    if known.empty:
        raise FigureError(
            f"none of {len(table)} shared measurements has a standard error; their differences have no unit to be drawn in"
        )
    known = known.sort_values(["z", "case", "metric", "params"], kind="stable").reset_index(drop=True)
    moved = known[known["z"] != 0]
    named = moved.loc[sorted(moved["z"].abs().sort_values(ascending=False, kind="stable").index[:MOST_NAMED])]
    with drawing():
        title = f"Change from {baseline.run.id} to {current.run.id}"
        figure = blank(9.0, 2.7 + 0.205 * len(named), title, _footer(table, known, len(moved), len(named)))
        ratio = [1.0, max(0.4, 0.18 * len(named))] if len(named) else [1.0]
        grid = figure.add_gridspec(len(ratio), 1, height_ratios=ratio)
        axes = [figure.add_subplot(grid[0])]
        _all(axes[0], known)
        if len(named):
            axes.append(figure.add_subplot(grid[1], sharex=axes[0]))
            _named(axes[1], named)
            axes[0].tick_params(labelbottom=False)
        beyond = _scale(axes[0], float(known["z"].abs().max()))
        axes[-1].set_xlabel(f"current − baseline (standard errors of the difference{beyond})")
    return Picture(figure, known)


def _footer(table: pd.DataFrame, known: pd.DataFrame, n_moved: int, n_named: int) -> str:
    outside = int((known["z"].abs() > LINES).sum())
    rest = table[table["z"].isna()]
    changed = rest.loc[rest["difference"] != 0, "metric"]
    without = f"{len(rest)} more without a standard error, {len(changed)} of them changed" if len(rest) else ""
    return joined(
        f"n = {counted(len(known), 'shared measurement')}, {outside} beyond ±{LINES:g} (chance alone: about {0.0455 * len(known):.0f})",
        f"the {n_named} largest changes of {n_moved} are named" if n_named < n_moved else "",
        without + (f" ({', '.join(dict.fromkeys(changed))})" if len(changed) else ""),
        "runs on the same items vary together, so z errs towards 0",
    )


def _scale(axes: Axes, largest: float) -> str:
    """Sets the common x axis; returns what its label must say about it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    reach = 1.15 * max(largest, 3.0)
    axes.set_xlim(-reach, reach)
    if largest <= _WIDE:
        return ""
    reach *= 1.5
    axes.set_xscale("symlog", linthresh=4, linscale=1.5)
    axes.set_xlim(-reach, reach)
    tens = [10.0**d for d in range(1, 12) if 10.0**d <= reach]
    axes.xaxis.set_major_locator(FixedLocator([*[-t for t in reversed(tens)], -LINES, 0, LINES, *tens]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    axes.minorticks_off()
    return "; log beyond ±4"


def _names(report: Report, other: Report) -> dict[str, str]:
    """Under what each subject of a report is looked up: its own name, or one name for both where each report has one subject."""
    mine, theirs = (list(dict.fromkeys(m.subject for m in r.measurements)) for r in (report, other))
    if len(mine) == 1 and len(theirs) == 1:
        return {mine[0]: "the subject"}
    return {s: s for s in mine}


def _by_key(report: Report, names: dict[str, str]) -> dict[Key, Measurement]:
    return {
        (f"{m.case.replace(m.subject, '*')} {names[m.subject]}", m.metric, params_key(m.params)): m
        for m in report.measurements
    }


def _row(key: Key, baseline: Measurement, current: Measurement) -> dict[str, object]:
    difference = current.value - baseline.value
    spread = None
    if current.stderr is not None and baseline.stderr is not None:
        spread = math.hypot(current.stderr, baseline.stderr)
    return {
        "case": current.case.replace(current.subject, "*"),
        "subject": current.subject,
        "metric": key[1],
        "params": key[2],
        "baseline": baseline.value,
        "baseline_stderr": baseline.stderr,
        "current": current.value,
        "current_stderr": current.stderr,
        "difference": difference,
        "z": difference / spread if spread else None,
        "change": _verdict(current, difference),
        "unit": current.unit,
    }


def _verdict(m: Measurement, difference: float) -> str:
    if difference == 0:
        return "unchanged"
    if m.direction == "none":
        return "no direction"
    return "better" if (difference > 0) is (m.direction == "higher") else "worse"


def _bounds(axes: Axes) -> None:
    axes.axvspan(-LINES, LINES, color=PALE, alpha=0.5, linewidth=0, zorder=0)
    for place in (-LINES, LINES):
        axes.axvline(place, color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)


def _all(axes: Axes, rows: pd.DataFrame) -> None:
    """Where all measurements lie: a mark each, in a row for each verdict."""
    for place, (change, colour) in enumerate(_COLOURS.items()):
        own = rows.loc[rows["change"] == change, "z"]
        axes.plot(own, np.full(len(own), -place), "|", color=colour, markersize=11, alpha=0.75)
        axes.text(
            1.01,
            -place,
            f"{len(own)} {change}",
            transform=axes.get_yaxis_transform(),
            color=colour,
            fontsize=8,
            va="center",
        )
    _bounds(axes)
    axes.set_ylim(0.6 - len(_COLOURS), 0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("all shared measurements")


def _named(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    colours = [_COLOURS[c] for c in rows["change"]]
    axes.hlines(places, 0, rows["z"], color=colours, linewidth=1)
    axes.scatter(rows["z"], places, color=colours, s=18, zorder=3)
    _bounds(axes)
    axes.set_yticks(places, [_label(row.metric, row.params) for row in rows.itertuples()], fontsize=7)
    axes.set_ylim(-0.8, len(rows) - 0.2)
    for place, row in zip(places, rows.itertuples(), strict=True):
        text = f"{row.baseline:.3g} → {row.current:.3g}"
        axes.text(1.01, float(place), text, transform=axes.get_yaxis_transform(), fontsize=7, va="center", color=INK)


def _label(metric: object, params: object) -> str:
    """`logit_diff  order=ABBA, task=ioi`, shortened in the middle."""
    import json

    told = ", ".join(f"{k}={v}" for k, v in json.loads(str(params)).items())
    text = f"{metric}  {told}"
    return text if len(text) <= 58 else f"{text[:36]} … {text[-19:]}"
