"""Specialization to tasks: the index of units over its null, the rates of units by task, and both by layer.

Tables: `*_si_units.csv`, `*_si_rates.csv`, `*_si.csv`. SI_i = 1 - H(p_i) / ln K with p_ik = r_ik / sum_k r_ik, the balanced share of task k in
the firing of unit i; its null is the mean of the index over permuted document labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.measures import measure
from trialplate.figures.profiles import Look, Panel, Plan, profile
from trialplate.figures.style import (
    BLUE,
    DIVERGING,
    GREY,
    INK,
    FigureError,
    Picture,
    between,
    blank,
    counted,
    drawing,
    evenly,
    is_lowest,
    joined,
    legend_beside,
    named,
    of_subject,
    panels,
    shortened,
    shown_of,
)
from trialplate.figures.tables import at_site, checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_HISTOGRAMS, MOST_MATRICES = 12, 6
MOST_TIMES = 8
_BINS = 40
_MEASURED, _NULL = "measured", "documents permuted"
_LOOKS = {_MEASURED: Look(BLUE, "o"), _NULL: Look(GREY, "", "--")}


def si_null(frame: pd.DataFrame, *, subject: str = "", site: str | None = None) -> Picture:
    """Histogram of the specialization index of scored units over that of the same units with documents permuted; a panel a layer.

    Lines are means. At most 12 layers. Raises FigureError where no unit was scored.
    """
    rows = at_site(checked(frame, "si_units"), site)
    scored = rows[(rows["scored"] == 1) & rows["si"].notna() & rows["si_null"].notna()]
    if scored.empty:
        raise FigureError(f"none of {len(rows)} units fired often enough to be scored; measure more tokens")
    there = sorted(scored["layer"].unique())
    layers = evenly(there, MOST_HISTOGRAMS)
    both = scored.loc[scored["layer"].isin(layers), ["si", "si_null"]].to_numpy()
    edges = np.linspace(min(0.0, float(both.min())), max(float(both.max()), 0.05), _BINS + 1)
    footer = joined(
        "lines: means",
        "null: mean of each unit's index over permutations of document labels",
        shown_of(len(layers), len(there), "layers"),
    )
    drawn = []
    columns = min(4, len(layers))
    with drawing():
        size = max(7.2, 2.7 * columns + 1.2), 2.0 * -(-len(layers) // columns) + 1.3
        figure = blank(*size, of_subject("Specialization of units against its null", subject), footer)
        axes = panels(figure, len(layers), columns, share_y=True)
        for i, (one, layer) in enumerate(zip(axes, layers, strict=True)):
            drawn.append(_si_panel(one, rows[rows["layer"] == layer], scored[scored["layer"] == layer], edges, layer))
            if is_lowest(i, len(layers), columns):
                one.set_xlabel("SI (0: all tasks alike, 1: one)")
            if i % columns == 0:
                one.set_ylabel("units (log)")
        _two_names(figure)
    import pandas as pd

    return Picture(figure, pd.concat(drawn, ignore_index=True))


def _si_panel(axes: Axes, rows: pd.DataFrame, scored: pd.DataFrame, edges: np.ndarray, layer: int) -> pd.DataFrame:
    import pandas as pd

    tables = []
    for column, name in (("si_null", _NULL), ("si", _MEASURED)):
        counts, _ = np.histogram(scored[column], edges)
        colour = _LOOKS[name].colour
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.45 if column == "si_null" else 0.55)
        axes.stairs(counts, edges, color=colour, linewidth=0.9)
        axes.axvline(scored[column].mean(), color=colour, linewidth=1.4, linestyle=_LOOKS[name].style)
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "which": name,
                    "si_from": edges[:-1],
                    "si_to": edges[1:],
                    "n_units": counts,
                    "mean": scored[column].mean(),
                }
            )
        )
    # log: nearly all units, and all of the null, sit in the first bins, and the tail is what the picture is about
    axes.set_yscale("log")
    axes.set_ylim(0.7, 12 * max(float(t["n_units"].max()) for t in tables))
    selective = rows["selective"].sum() / max(1, rows["selective"].notna().sum())
    axes.set_title(f"L{layer}")
    text = f"{len(scored)} of {len(rows)} units scored\n{100 * selective:.0f} % selective"
    axes.text(0.98, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=INK)
    return pd.concat(tables)


def _two_names(figure: Figure) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=_LOOKS[n].colour, alpha=0.6) for n in (_MEASURED, _NULL)]
    legend_beside(figure, patches, [_MEASURED, named(_NULL, 12)])


def rate_matrix(
    rates: pd.DataFrame, units: pd.DataFrame | None = None, *, subject: str = "", site: str | None = None
) -> Picture:
    """Each unit's firing rate by task over its mean rate, K p_ik: units as rows, ordered by the task they prefer, then by how much.

    White is no preference; at eight times the mean, and at an eighth, the colours end.
    With `units` (`*_si_units.csv`) only scored units are drawn. Units that never fire have no shares and are counted below.
    At most 6 layers, fewer of many tasks. Raises FigureError for fewer than two tasks.
    """
    rows = at_site(checked(rates, "si_rates"), site)
    tasks = list(dict.fromkeys(rows["task_id"]))
    if len(tasks) < 2:
        raise FigureError(f"a preference needs at least two tasks, got {', '.join(tasks)}")
    wide = rows.pivot(index=["layer", "unit"], columns="task_id", values="rate")[tasks]
    if wide.isna().any(axis=None):
        layer, unit = wide.index[int(wide.isna().any(axis=1).to_numpy().argmax())]
        raise FigureError(
            f"unit {unit:.0f} of layer {layer} has no rate on some of the tasks {', '.join(tasks)}; wanted all of them"
        )
    if units is not None:
        known = at_site(checked(units, "si_units"), site)
        wide = wide[wide.index.isin(known[known["scored"] == 1].set_index(["layer", "unit"]).index)]
    silent = int((wide.sum(axis=1) == 0).sum())
    wide = wide[wide.sum(axis=1) > 0]
    if wide.empty:
        raise FigureError("no unit fires on any task, or none was scored; measure more tokens")
    shares = wide.div(wide.sum(axis=1), axis=0)
    there = sorted(shares.index.unique("layer"))
    layers = evenly(there, max(1, min(MOST_MATRICES, int(9.5 / _width(tasks)))))
    return _matrices(shares, layers, tasks, subject, _matrix_footer(len(layers), len(there), silent, units is not None))


def _matrix_footer(shown: int, there: int, silent: int, scored: bool) -> str:
    return joined(
        "white: no preference",
        "scored units only" if scored else "all units that fire",
        f"{counted(silent, 'unit')} never fire" if silent else "",
        shown_of(shown, there, "layers"),
    )


def _width(tasks: list[str]) -> float:
    """Inches of one matrix."""
    return max(1.35, 0.22 * len(tasks))


def _matrices(shares: pd.DataFrame, layers: list[int], tasks: list[str], subject: str, footer: str) -> Picture:
    import pandas as pd

    drawn = []
    limit = min(MOST_TIMES, len(tasks))  # of K tasks a unit fires at most K times as often on one as on average
    reach = np.log2(limit)
    with drawing():
        width = max(6.4, len(layers) * _width(tasks) + 1.6)
        figure = blank(width, 5.6, of_subject("What each unit fires on, ordered by preferred task", subject), footer)
        axes = panels(figure, len(layers), len(layers), share_x=False)
        for one, layer in zip(axes, layers, strict=True):
            own = _by_preference(shares[shares.index.get_level_values("layer") == layer].droplevel("layer"))
            times = np.log2(np.clip(own.to_numpy() * len(tasks), 1 / limit, limit))
            image = one.imshow(times, cmap=DIVERGING, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
            for border in np.flatnonzero(np.diff(own.to_numpy().argmax(axis=1))) + 0.5:
                one.axhline(border, color=INK, linewidth=0.6)
            one.set_title(f"L{layer}, {len(own)} units", fontsize=8.5)
            one.set_xticks(range(len(tasks)), [shortened(t) for t in tasks], rotation=90, fontsize=7.5)
            one.set_yticks([])
            row = own.reset_index().assign(layer=layer, row=range(len(own)))
            drawn.append(row.melt(["layer", "row", "unit"], tasks, "task_id", "share"))
        axes[0].set_ylabel("units, by preferred task")
        bar = figure.colorbar(
            image, ax=list(axes), aspect=28, pad=0.02, label="firing rate over the unit's mean rate (log)"
        )
        bar.set_ticks(
            [-reach, 0, reach], labels=[f"≤ 1/{limit}", "1", f"{limit}" if limit == len(tasks) else f"≥ {limit}"]
        )
    table = pd.concat(drawn, ignore_index=True)
    return Picture(figure, table.assign(times_mean=table["share"] * len(tasks)))


def _by_preference(shares: pd.DataFrame) -> pd.DataFrame:
    values = shares.to_numpy()
    return shares.iloc[np.lexsort((-values.max(axis=1), values.argmax(axis=1)))]


_SI_PANELS = {
    "si": ("si_mean", "si_null"),
    "si_excess": ("si_excess", None),
    "frac_selective": ("frac_selective", "frac_selective_null"),
    "mi_bits": ("mi_bits", "mi_null"),
    "si_coverage": ("si_coverage", None),
}


def si_layers(frame: pd.DataFrame, *, subject: str = "", site: str | None = None) -> Picture:
    """The index, its excess, the share of selective units, information and coverage against the layer, with nulls where there are any."""
    rows = at_site(checked(frame, "si"), site)
    parts = []
    for panel, (metric, null) in _SI_PANELS.items():
        parts.append(rows[rows["metric"] == metric].assign(panel=panel, line=_MEASURED))
        parts.append(rows[rows["metric"] == null].assign(panel=panel, line=_NULL))
    shown = [Panel(key, *measure(key)) for key in _SI_PANELS]
    plan = Plan(of_subject("Specialization by layer", subject), _si_counts(rows), "", looks=_LOOKS)
    return profile(_together(parts), shown, plan)


def si_runs(frames: Mapping[str, pd.DataFrame], *, site: str | None = None) -> Picture:
    """Excess, selective share and coverage against the layer, one line a run."""
    wanted = [key for key in _SI_PANELS if key not in ("si", "mi_bits")]
    tables = {name: at_site(checked(f, "si", f"run {name}"), site, f"run {name}") for name, f in frames.items()}
    rows = _together(
        [t[t["metric"].isin(wanted)].assign(panel=lambda f: f["metric"], line=name) for name, t in tables.items()]
    )
    plan = Plan(f"Specialization by layer: {len(frames)} runs", _si_counts(rows), "run")
    return profile(rows, [Panel(key, *measure(key)) for key in wanted], plan)


def _together(parts: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    rows = pd.concat([p for p in parts if not p.empty], ignore_index=True) if any(len(p) for p in parts) else parts[0]
    if rows.empty:
        raise FigureError(
            f"a picture of specialization needs one of the metrics {', '.join(_SI_PANELS)}; the table has none of them"
        )
    twice = rows.duplicated(["panel", "line", "layer"])
    if twice.any():
        raise FigureError(
            f"two rows for {rows[twice].iloc[0]['metric']} of layer {rows[twice].iloc[0]['layer']}; wanted one"
        )
    return rows


def _si_counts(rows: pd.DataFrame) -> str:
    documents = between(rows["n_docs"].min(), rows["n_docs"].max(), "document")
    units = between(rows["n_units"].min(), rows["n_units"].max(), "unit")
    bars = (
        "bars and bands: 95 % intervals over documents" if rows["ci_lo"].notna().any() else "no intervals in the table"
    )
    return joined(f"n = {documents}, {units} a layer", bars)
