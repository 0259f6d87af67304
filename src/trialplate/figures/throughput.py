"""What leaving out hidden units brings: throughput against perplexity, under the ceiling that Amdahl's law sets.

The table is `*_dynamic_k_speed.csv`. The ceiling is the speed of a step in which the skipped rows cost nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.style import (
    GREY,
    INK,
    MARKERS,
    MOST_NAMES,
    PALETTE,
    SMALL,
    FigureError,
    Picture,
    between,
    blank,
    drawing,
    joined,
    legend_beside,
    named,
    of_subject,
    plain_log,
)
from trialplate.figures.tables import checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def pareto(frame: pd.DataFrame, *, subject: str = "") -> Picture:
    """Tokens per second against perplexity, one line a kernel, the kept share at each mark; the dense model as a star, the ceiling dashed.

    The right axis is the speed-up over dense. Raises FigureError without a row of kernel `dense` and without a speed-up to infer it from.
    """
    rows = checked(frame, "dynamic_k_speed")
    dense_rows = rows[rows["kernel"] == "dense"]
    others = rows[rows["kernel"] != "dense"]
    if others.empty:
        raise FigureError(
            "the table holds the dense kernel alone; throughput against perplexity compares others with it"
        )
    dense = (
        float(dense_rows["tokens_per_second"].median())
        if len(dense_rows)
        else float((rows["tokens_per_second"] / rows["speedup"]).median())
    )
    kernels = list(dict.fromkeys(others["kernel"]))
    if len(kernels) > MOST_NAMES:
        raise FigureError(f"{len(kernels)} kernels on one axis are not told apart; draw at most {MOST_NAMES}")
    repeats, threads = (between(rows[c].min(), rows[c].max(), c.removesuffix("s")) for c in ("repeats", "threads"))
    footer = joined(
        f"n = {repeats} a point, {threads}",
        "bars: interquartile range",
        "numbers at the marks: share of hidden units kept",
    )
    with drawing():
        figure = blank(7.4, 4.7, of_subject("Throughput against perplexity", subject), footer)
        axes = figure.add_subplot()
        for i, kernel in enumerate(kernels):
            own = others[others["kernel"] == kernel].sort_values("kept")
            axes.plot(
                own["perplexity"],
                own["tokens_per_second"],
                color=PALETTE[i],
                marker=MARKERS[i],
                label=named(kernel),
                zorder=3,
            )
            ends = own[own["tps_lo"].notna()]
            axes.vlines(ends["perplexity"], ends["tps_lo"], ends["tps_hi"], color=PALETTE[i], linewidth=1.1)
        ceiling = _ceiling(axes, others, dense)
        _dense_point(axes, dense_rows, dense)
        _kept_labels(axes, others, kernels)
        _speed_axes(axes, dense, others)
        handles, names = axes.get_legend_handles_labels()
        legend_beside(figure, handles, names, "kernel")
    import pandas as pd

    drawn = rows[
        ["kernel", "kept", "perplexity", "tokens_per_second", "tps_lo", "tps_hi", "speedup", "threads", "repeats"]
    ]
    return Picture(figure, pd.concat([drawn, ceiling], ignore_index=True))


def _ceiling(axes: Axes, rows: pd.DataFrame, dense: float) -> pd.DataFrame:
    import pandas as pd

    known = rows[rows["speedup_ceiling"].notna()].sort_values("perplexity").drop_duplicates("kept")
    places = pd.DataFrame(
        {
            "kernel": "ceiling",
            "kept": known["kept"],
            "perplexity": known["perplexity"],
            "tokens_per_second": dense * known["speedup_ceiling"],
            "speedup": known["speedup_ceiling"],
        }
    )
    if len(places):
        axes.plot(
            places["perplexity"],
            places["tokens_per_second"],
            color=INK,
            linestyle="--",
            linewidth=1.2,
            label="ceiling (Amdahl)",
        )
    return places


def _dense_point(axes: Axes, dense_rows: pd.DataFrame, dense: float) -> None:
    axes.axhline(dense, color=GREY, linestyle=":", linewidth=1, zorder=1)
    if len(dense_rows):
        axes.plot([dense_rows["perplexity"].iloc[0]], [dense], "*", color=INK, markersize=13, label="dense", zorder=6)


def _kept_labels(axes: Axes, rows: pd.DataFrame, kernels: list[str]) -> None:
    """The kept shares at the marks of the fastest kernel: those of the others lie below or above them."""
    fastest = rows.groupby("kernel")["tokens_per_second"].max().idxmax()
    own = rows[rows["kernel"] == fastest]
    for place in own[["perplexity", "tokens_per_second", "kept"]].to_numpy(float).tolist():
        axes.annotate(
            f"{place[2]:g}",
            (place[0], place[1]),
            (6, -4),
            textcoords="offset points",
            va="top",
            fontsize=SMALL,
            color=PALETTE[kernels.index(str(fastest))],
        )


def _speed_axes(axes: Axes, dense: float, rows: pd.DataFrame) -> None:
    is_log = plain_log(axes, "x", float(rows["perplexity"].min()), float(rows["perplexity"].max()))
    axes.set_xlabel(f"perplexity ({'log; ' if is_log else ''}left is better)")
    axes.set_ylabel("tokens per second (up is better)")
    axes.grid(axis="y")
    axes.margins(0.08)
    beside = axes.secondary_yaxis("right", functions=(lambda v: np.asarray(v) / dense, lambda v: np.asarray(v) * dense))
    beside.set_ylabel("speed-up over dense (×)")
