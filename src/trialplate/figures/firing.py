"""How often units fire, and how much of the code few entries carry: histograms of firing rates and Lorenz curves, by layer.

Tables: `*_units.csv` (rate = share of tokens on which a unit fires) and `*_lorenz.csv`. A rate of exactly 0 has no place on a log axis;
it gets a bar of its own. Dead is below 1e-6, always on above 0.99.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.style import (
    BLUE,
    GREY,
    MOST_NAMES,
    ORDERED,
    PALETTE,
    VERMILLION,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    evenly,
    is_lowest,
    joined,
    legend_beside,
    of_subject,
    panels,
    shortened,
    shown_of,
)
from trialplate.figures.tables import at_site, checked, chosen, positions_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

DEAD, ALWAYS = 1e-6, 0.99
MOST_LAYERS = 12
_PER_DECADE = 4
_GAP = 0.45


def firing_rates(
    frame: pd.DataFrame, *, subject: str = "", task: str | None = None, site: str | None = None
) -> Picture:
    """Histogram of the units' firing rates, a panel a layer: log axis between a bar for rate 0 and one for always on.

    Of several tasks the mean of a unit's rates is drawn (tasks weigh the same, however many tokens they have), or one `task`.
    At most 12 layers, spread over all. Raises FigureError for a rate outside [0, 1] or a table that is not one of units.
    """
    rows = at_site(checked(frame, "units"), site)
    rows = rows if task is None else chosen(rows, "task_id", task)
    if ((rows["rate"] < 0) | (rows["rate"] > 1)).any():
        raise FigureError(
            f"a firing rate is a share of tokens in [0, 1], got {rows['rate'].min()} to {rows['rate'].max()}"
        )
    tasks = list(dict.fromkeys(rows["task_id"]))
    rates = rows.groupby(["layer", "unit"])["rate"].mean()
    there = sorted(rows["layer"].unique())
    layers = evenly(there, MOST_LAYERS)
    edges = _edges(float(rates[rates > 0].min()) if (rates > 0).any() else DEAD)
    counts = {layer: _histogram(rates[layer].to_numpy(), edges) for layer in layers}
    what = f"mean rate over {counted(len(tasks), 'task')}" if len(tasks) > 1 else f"task {tasks[0]}"
    footer = joined(
        f"rate: share of tokens on which a unit fires, {what}",
        positions_of(rows),
        f"n = {counted(rates[layers[0]].size, 'unit')} a layer",
        shown_of(len(layers), len(there), "layers"),
        f"shaded: dead (below 10⁻⁶) and always on (above {ALWAYS})",
    )
    columns = min(4, len(layers))
    with drawing():
        size = max(7.2, 2.7 * columns + 0.5), 2.0 * -(-len(layers) // columns) + 1.3
        figure = blank(*size, of_subject("Firing rates of units by layer", subject), footer)
        axes = panels(figure, len(layers), columns, share_y=True)
        for i, (one, layer) in enumerate(zip(axes, layers, strict=True)):
            _rates_panel(one, edges, counts[layer], rates[layer].to_numpy(), layer)
            if is_lowest(i, len(layers), columns):
                one.set_xlabel("firing rate (log)")
            if i % columns == 0:
                one.set_ylabel("units (%)")
    return Picture(figure, _rate_table(edges, counts))


def _edges(least: float) -> NDArray[np.float64]:
    """Log-spaced edges from the decade of the least rate that is not 0 (1e-6 at the highest) up to 0.99, then 1."""
    lowest = min(int(np.floor(np.log10(least))), int(np.log10(DEAD)))
    inner = 10.0 ** (np.arange(lowest * _PER_DECADE, 0) / _PER_DECADE)
    return np.array([*inner, ALWAYS, 1.0])


def _histogram(rates: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Units per bin: rate 0 first, then between the edges, at last above 0.99. 0.99 itself is not yet always on."""
    inside = np.searchsorted(edges[1:-1], rates[rates > 0], side="left")
    return np.array([(rates == 0).sum(), *np.bincount(inside, minlength=len(edges) - 1)], dtype=np.int64)


def _rates_panel(
    axes: Axes, edges: NDArray[np.float64], counts: NDArray[np.int64], rates: NDArray[np.float64], layer: int
) -> None:
    places = np.log10(edges[:-1])  # left edges, and 0.99
    low, high = float(places[0]), 0.0
    shares = 100 * counts / counts.sum()
    axes.axvspan(low - 2 * _GAP - 0.3, np.log10(DEAD), color=VERMILLION, alpha=0.13, linewidth=0)
    axes.axvspan(high + _GAP - 0.12, high + 2 * _GAP + 0.3, color=VERMILLION, alpha=0.13, linewidth=0)
    left = [low - 2 * _GAP, *places[:-1], high + _GAP]
    widths = [_GAP, *np.diff(places), _GAP]
    colours = [VERMILLION, *[BLUE if e >= DEAD else VERMILLION for e in edges[:-2]], VERMILLION]
    axes.bar(left, shares, widths, align="edge", color=colours, edgecolor="white", linewidth=0.3)
    decades = range(int(low), 1, 2 if low < -3 else 1)
    ticks = [low - 1.5 * _GAP, *map(float, decades), high + 1.5 * _GAP]
    axes.set_xticks(ticks, ["0", *[f"$10^{{{d}}}$" if d else "1" for d in decades], ">.99"], fontsize=7.5)
    axes.set_xlim(low - 2 * _GAP - 0.3, high + 2 * _GAP + 0.3)
    axes.set_title(f"L{layer}")
    dead, always = 100 * (rates < DEAD).mean(), 100 * (rates > ALWAYS).mean()
    axes.set_title(f"dead {dead:.1f} %, always on {always:.1f} %", loc="right", fontsize=7.5, color=VERMILLION)


def _rate_table(edges: NDArray[np.float64], counts: dict[int, NDArray[np.int64]]) -> pd.DataFrame:
    import pandas as pd

    low, high = [0.0, *edges[:-1]], [0.0, *edges[1:]]
    return pd.DataFrame(
        [
            (layer, a, b, int(n), 100 * n / of.sum())
            for layer, of in counts.items()
            for a, b, n in zip(low, high, of, strict=True)
        ],
        columns=["layer", "rate_above", "rate_up_to", "n_units", "percent"],
    )


def lorenz(frame: pd.DataFrame, *, subject: str = "", site: str | None = None) -> Picture:
    """Share of the summed magnitude that the smallest entries carry, one curve a layer, with its Gini coefficient; a panel a task.

    The diagonal is a code in which all entries are alike. At most 6 tasks. Raises FigureError for a share outside [0, 1].
    """
    rows = at_site(checked(frame, "lorenz"), site)
    shares = rows[["share_of_entries", "share_of_magnitude"]].to_numpy()
    if (shares < -1e-9).any() or (shares > 1 + 1e-9).any():
        raise FigureError(f"shares of a Lorenz curve lie in [0, 1], got {shares.min()} to {shares.max()}")
    there = list(dict.fromkeys(rows["task_id"]))
    tasks = evenly(there, 6)
    rows = rows[rows["task_id"].isin(tasks)]
    layers = sorted(rows["layer"].unique())
    footer = joined(
        "smallest entries first; dotted: all entries alike (Gini 0)",
        positions_of(rows),
        shown_of(len(tasks), len(there), "tasks"),
    )
    with drawing():
        columns = min(3, len(tasks))
        size = (6.0, 4.6) if len(tasks) == 1 else (3.0 * columns + 1.3, 2.75 * -(-len(tasks) // columns) + 1.2)
        figure = blank(*size, of_subject("How much of the activation the smallest entries carry", subject), footer)
        axes = panels(figure, len(tasks), columns, share_y=True)
        colours = _layer_colours(layers)
        for i, (one, task) in enumerate(zip(axes, tasks, strict=True)):
            _curves(one, rows[rows["task_id"] == task], colours, task, alone=len(tasks) == 1)
            if is_lowest(i, len(tasks), columns):
                one.set_xlabel("share of entries, smallest first")
            if i % columns == 0:
                one.set_ylabel("share of summed magnitude")
        _layer_key(figure, axes, layers, colours, rows if len(tasks) == 1 else None)
    columns_ = ["task_id", "layer", "share_of_entries", "share_of_magnitude", "gini"]
    return Picture(figure, rows[columns_].reset_index(drop=True))


def _layer_colours(layers: list[int]) -> dict[int, str]:
    import matplotlib
    from matplotlib.colors import to_hex

    if len(layers) <= MOST_NAMES:
        return dict(zip(layers, PALETTE, strict=False))
    shades = matplotlib.colormaps[ORDERED](np.linspace(0, 0.92, len(layers)))
    return {layer: to_hex(shade) for layer, shade in zip(layers, shades, strict=True)}


def _curves(axes: Axes, rows: pd.DataFrame, colours: dict[int, str], task: str, *, alone: bool) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for layer in sorted(rows["layer"].unique()):
        curve = rows[rows["layer"] == layer].sort_values("share_of_entries", kind="stable")
        axes.plot(
            curve["share_of_entries"],
            curve["share_of_magnitude"],
            color=colours[layer],
            linewidth=1.3,
            label=f"L{layer}",
        )
    ginis = rows.groupby("layer")["gini"].first()
    ends = f"Gini {ginis.min():.2f} (L{ginis.idxmin()}) – {ginis.max():.2f} (L{ginis.idxmax()})"
    if len(ginis) == 1:
        ends = f"Gini {ginis.iloc[0]:.3f}"
    axes.set_title(task if alone else f"{shortened(task, 34)}\n{ends}", fontsize=8.5 if not alone else None)
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def _layer_key(
    figure: Figure, axes: Sequence[Axes], layers: list[int], colours: dict[int, str], single: pd.DataFrame | None
) -> None:
    """A legend for few layers (with the Gini of each where there is one task), a colour bar for many."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D

    ginis = None if single is None else single.groupby("layer")["gini"].first()
    if len(layers) <= MOST_NAMES:
        names = [f"L{n}" + ("" if ginis is None else f"   Gini {ginis[n]:.3f}") for n in layers]
        legend_beside(figure, [Line2D([], [], color=colours[n]) for n in layers], names, "layer")
        return
    edges = [layers[0] - 0.5, *[(a + b) / 2 for a, b in pairwise(layers)], layers[-1] + 0.5]
    shades = ScalarMappable(BoundaryNorm(edges, len(layers)), ListedColormap([colours[n] for n in layers]))
    bar = figure.colorbar(shades, ax=list(axes), aspect=25, pad=0.02)
    bar.minorticks_off()
    if ginis is None:
        shown = evenly(layers, 7)
        bar.set_ticks(shown, labels=[str(n) for n in shown])
        bar.set_label("layer")
    else:
        bar.set_ticks(
            layers, labels=[f"L{n}  Gini {ginis[n]:.2f}" for n in layers], fontsize=6.5 if len(layers) > 12 else 8
        )
