"""Which units fire together: the matrix of edges ordered by community, and modularity Q beside the Q of null graphs.

Tables: `*_edges.csv`, `*_communities.csv`, `*_modularity.csv`, `*_modularity_nulls.csv`. Q of sparse noise is near 1, so Q alone says nothing: it is
never drawn without its null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.measures import measure
from trialplate.figures.profiles import Panel, Plan, profile
from trialplate.figures.style import (
    GREY,
    INK,
    PALETTE,
    SHADES,
    VERMILLION,
    FigureError,
    Picture,
    between,
    blank,
    counted,
    drawing,
    evenly,
    joined,
    layer_ticks,
    of_subject,
    shown_of,
)
from trialplate.figures.tables import at_site, checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST_MATRICES = 6
MOST_CELLS = 256
"""A matrix of more units than this is drawn in blocks of units: a cell is the mean over its pairs."""
TITLE = "Units that fire together, ordered by community"
NULLS = {
    "rewired": ("edges rewired, degrees kept", PALETTE[5]),
    "shifted": ("firing shifted within texts", PALETTE[4]),
    "dealt": ("firing dealt among texts of a task", PALETTE[3]),
}


def coactivation(
    edges: pd.DataFrame,
    communities: pd.DataFrame,
    modularity: pd.DataFrame | None = None,
    nulls: pd.DataFrame | None = None,
    *,
    subject: str = "",
    site: str | None = None,
) -> Picture:
    """Edge weights between units ordered by community (largest first), a matrix a layer, and below them Q of every layer over its nulls.

    At most 6 matrices, spread over the layers; units outside the graph (community -1) are not in them.
    The table has the cells (`part` = matrix), Q and draws of the nulls. Raises FigureError for an edge of a unit without community.
    """
    import pandas as pd

    links = at_site(checked(edges, "edges"), site)
    groups = at_site(checked(communities, "communities"), site)
    there = sorted(links["layer"].unique())
    layers = evenly(there, MOST_MATRICES)
    qs = None if modularity is None else _modularity(modularity, site)
    draws = None if nulls is None else at_site(checked(nulls, "modularity_nulls"), site)
    footer = joined(
        "matrices: pairs without an edge are white; lines part communities",
        _strongest(links, qs),
        shown_of(len(layers), len(there), "matrices"),
        "" if qs is None else _q_footer(qs),
    )
    tables = []
    with drawing():
        figure, axes, below = _frame(len(layers), qs is not None, of_subject(TITLE, subject), footer)
        top = float(np.quantile(links["weight"], 0.98))
        for one, layer in zip(axes, layers, strict=True):
            own = links[links["layer"] == layer], groups[groups["layer"] == layer]
            tables.append(_matrix(one, *own, layer, top))
        bar = figure.colorbar(
            axes[0].images[0],
            ax=axes,
            aspect=12 * -(-len(layers) // 3),
            pad=0.02,
            label="weight of an edge (mean of a cell)",
        )
        bar.ax.tick_params(labelsize=8)
        if qs is not None and below is not None:
            tables.append(_q_panel(below, qs, draws))
    return Picture(figure, pd.concat(tables, ignore_index=True))


def _frame(n: int, with_q: bool, title: str, footer: str) -> tuple[Figure, list[Axes], Axes | None]:
    """The figure, axes of n matrices, and axes of Q: below the matrices, or beside the only one."""
    if n == 1 and with_q:
        figure = blank(8.8, 4.3, title, footer)
        pair = figure.add_gridspec(1, 2, width_ratios=[0.85, 1])
        return figure, [figure.add_subplot(pair[0])], figure.add_subplot(pair[1])
    columns = n if n <= 4 else 3
    rows, side = -(-n // columns), 2.5 if columns == 4 else 2.75
    figure = blank(max(7.2, side * columns + 0.9), side * rows + (2.5 if with_q else 0) + 1.0, title, footer)
    grid = figure.add_gridspec(rows + with_q, columns, height_ratios=[1.0] * rows + [0.85] * with_q)
    axes = [figure.add_subplot(grid[divmod(i, columns)]) for i in range(n)]
    return figure, axes, figure.add_subplot(grid[rows, :]) if with_q else None


def _strongest(links: pd.DataFrame, qs: pd.DataFrame | None) -> str:
    """Says where the table of edges holds fewer than the graph had."""
    if qs is None or "n_edges" not in qs:
        return ""
    there = links.groupby("layer").size()
    cut = there[there < qs["n_edges"].reindex(there.index)]
    return f"the {counted(int(cut.max()), 'edge')} of highest weight of each layer" if len(cut) else ""


def modularity_layers(
    modularity: pd.DataFrame, nulls: pd.DataFrame | None = None, *, subject: str = "", site: str | None = None
) -> Picture:
    """Q of every layer over the Q of its null graphs, with z; layers where Q is undefined are hollow."""
    qs = _modularity(modularity, site)
    draws = None if nulls is None else at_site(checked(nulls, "modularity_nulls"), site)
    with drawing():
        figure = blank(
            max(6.4, min(11.0, 3.5 + 0.4 * len(qs))),
            3.8,
            of_subject("Modularity of co-activation by layer", subject),
            _q_footer(qs),
        )
        return Picture(figure, _q_panel(figure.add_subplot(), qs, draws))


def modularity_runs(frames: Mapping[str, pd.DataFrame], *, site: str | None = None) -> Picture:
    """z of Q, Q, and the number of communities against the layer, one line a run."""
    import pandas as pd

    wanted = ("q_z", "q", "n_communities")
    tables = [at_site(checked(f, "modularity", f"run {n}"), site, f"run {n}").assign(line=n) for n, f in frames.items()]
    rows = pd.concat([t[t["metric"].isin(wanted)] for t in tables], ignore_index=True)
    if rows.empty:
        raise FigureError(f"none of the runs has {', '.join(wanted)}; give tables that end in _modularity.csv")
    rows = rows.assign(panel=rows["metric"], ci_lo=np.nan, ci_hi=np.nan)
    plan = Plan(f"Modularity of co-activation by layer: {len(frames)} runs", _algorithms(rows), "run")
    return profile(rows, [Panel(m, *measure(m)) for m in wanted], plan)


def _modularity(frame: pd.DataFrame, site: str | None) -> pd.DataFrame:
    """One row a layer: the metrics as columns, and the algorithm."""
    rows = at_site(checked(frame, "modularity"), site)
    if rows["algorithm"].nunique() > 1:
        raise FigureError(
            f"the table holds partitions by {', '.join(rows['algorithm'].unique())}; draw one algorithm at a time"
        )
    if not (rows["metric"] == "q").any():
        raise FigureError(
            f"the table has no metric q, only {', '.join(rows['metric'].unique())}; a picture of modularity needs it"
        )
    if rows.duplicated(["layer", "metric"]).any():
        raise FigureError("the table gives a metric of one layer twice; wanted one row for each layer and metric")
    wide = rows.pivot(index="layer", columns="metric", values="value")
    if "q_defined" not in wide:
        wide["q_defined"] = wide["q"].notna().astype(float)
    return wide.assign(algorithm=rows["algorithm"].iloc[0])


def _algorithms(rows: pd.DataFrame) -> str:
    return f"partition: {', '.join(map(str, rows['algorithm'].dropna().unique()))}"


def _q_footer(qs: pd.DataFrame) -> str:
    edges = between(qs["n_edges"].min(), qs["n_edges"].max(), "edge") if "n_edges" in qs else ""
    units = between(qs["n_units"].min(), qs["n_units"].max(), "unit") if "n_units" in qs else ""
    n = ", ".join(part for part in (units, edges) if part)
    hollow = int((qs["q_defined"] != 1).sum())
    return joined(
        f"n = {n} a layer" if n else "",
        _algorithms(qs),
        f"hollow: Q undefined, too few edges ({counted(hollow, 'layer')})" if hollow else "",
    )


def _matrix(axes: Axes, links: pd.DataFrame, groups: pd.DataFrame, layer: int, top: float) -> pd.DataFrame:
    import pandas as pd

    inside = groups[groups["community"] >= 0].copy()
    missing = set(links["unit_a"]).union(links["unit_b"]) - set(inside["unit"])
    if missing:
        raise FigureError(
            f"layer {layer}: unit {min(missing):.0f} has an edge and no community ({len(missing)} such units); "
            "give the edges and the communities of one measurement"
        )
    sizes = inside["community"].map(inside["community"].value_counts())
    inside = inside.assign(size=sizes).sort_values(["size", "community", "unit"], ascending=[False, True, True])
    place = {unit: i for i, unit in enumerate(inside["unit"])}
    first, second = (links[c].map(place).to_numpy(int) for c in ("unit_a", "unit_b"))
    cells, block = _binned(first, second, links["weight"].to_numpy(float), len(inside))
    shown = np.ma.masked_equal(cells, 0.0)
    n = len(inside)
    axes.imshow(
        shown, cmap=f"{SHADES}_r", vmin=0, vmax=top, extent=(0, n, n, 0), interpolation="nearest", aspect="equal"
    )
    borders = np.flatnonzero(np.diff(inside["community"])) + 1
    for border in borders.tolist():
        axes.axhline(border, color=INK, linewidth=0.4)
        axes.axvline(border, color=INK, linewidth=0.4)
    axes.set_title(
        f"L{layer}: {counted(n, 'unit')}, {counted(len(borders) + 1, 'community', 'communities')}", fontsize=8.5
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    row, column = np.nonzero(np.triu(cells))
    return pd.DataFrame(
        {
            "part": "matrix",
            "layer": layer,
            "row_unit": row * block,
            "column_unit": column * block,
            "units_a_cell": block,
            "value": cells[row, column],
        }
    )


def _binned(
    first: NDArray[np.int64], second: NDArray[np.int64], weight: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float64], int]:
    """The symmetric matrix of mean weights, in blocks of units where there are more than MOST_CELLS; and the size of a block."""
    block = -(-n // MOST_CELLS)
    size = -(-n // block)
    sums = np.zeros((size, size))
    np.add.at(sums, (first // block, second // block), weight)
    np.add.at(sums, (second // block, first // block), weight)
    across = np.minimum(block, n - block * np.arange(size)).astype(float)
    pairs = np.outer(across, across) - np.diag(across)  # ordered pairs of different units
    return np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0), block


def _q_panel(axes: Axes, qs: pd.DataFrame, draws: pd.DataFrame | None) -> pd.DataFrame:
    """Q as points over violins of its nulls; z against the rewired null above each point."""
    import pandas as pd

    layers = [int(n) for n in qs.index]
    kinds = [] if draws is None else [k for k in NULLS if (draws["kind"] == k).any()]
    unknown = [] if draws is None else sorted(set(draws["kind"]) - set(NULLS))
    if unknown:
        raise FigureError(f"unknown kind of null graph {', '.join(unknown)}; known: {', '.join(NULLS)}")
    tables = []
    step = min(0.3, 1.0 / (len(kinds) + 2))
    for i, kind in enumerate(kinds):
        own = draws[draws["kind"] == kind] if draws is not None else qs
        _violins(axes, own, layers, (i + 0.5 - len(kinds) / 2) * step + step / 2, step, NULLS[kind][1])
        tables.append(
            own[own["q"].notna()].assign(part=kind, value=lambda t: t["q"])[["part", "layer", "draw", "value"]]
        )
    if "q_null_mean" in qs and not kinds:
        axes.plot(range(len(layers)), qs["q_null_mean"], "_", color=GREY, markersize=14, markeredgewidth=2)
        tables.append(pd.DataFrame({"part": "null mean", "layer": layers, "value": qs["q_null_mean"].to_numpy(float)}))
    defined = (qs["q_defined"] == 1).to_numpy()
    q, left = qs["q"].to_numpy(float), -step * len(kinds) / 2
    for mask, face in ((defined, VERMILLION), (~defined, "white")):
        axes.plot(
            np.flatnonzero(mask) + left, q[mask], "D", color=VERMILLION, markerfacecolor=face, markersize=5.5, zorder=5
        )
    _z_row(axes, qs, defined)
    layer_ticks(axes, range(len(layers)), layers, most=24)
    axes.set_xlim(-0.7, len(layers) - 0.3)
    axes.set(xlabel="layer", ylabel="modularity Q")
    axes.set_title("Q and its null graphs" + ("; z: against the rewired null" if "q_z" in qs else ""), pad=16)
    axes.margins(y=0.08)
    axes.grid(axis="y")
    _q_names(
        axes,
        {k: draws.loc[draws["kind"] == k, "n_edges"] for k in kinds} if draws is not None else {},
        alone=len(qs) == 1,
    )
    tables.append(pd.DataFrame({"part": "q", "layer": layers, "value": q}).dropna())
    if "q_z" in qs:
        tables.append(pd.DataFrame({"part": "q_z", "layer": layers, "value": qs["q_z"].to_numpy(float)}).dropna())
    return pd.concat(tables, ignore_index=True)


def _violins(axes: Axes, draws: pd.DataFrame, layers: list[int], shift: float, width: float, colour: str) -> None:
    """A violin a layer with a dash at its mean; the dash alone where all draws are alike and a density has no width."""
    for place, layer in enumerate(layers):
        values = draws.loc[(draws["layer"] == layer) & draws["q"].notna(), "q"].to_numpy(float)
        if not len(values):
            continue
        if np.ptp(values) > 0:
            drawn = axes.violinplot([values], [place + shift], widths=0.9 * width, showextrema=False)
            for body in drawn["bodies"]:  # type: ignore[attr-defined]
                body.set(facecolor=colour, edgecolor=colour, alpha=0.55)
        axes.hlines(values.mean(), place + shift - 0.4 * width, place + shift + 0.4 * width, color=colour, linewidth=2)


def _z_row(axes: Axes, qs: pd.DataFrame, defined: NDArray[np.bool_]) -> None:
    """z of each layer in a row above the axes: beside the points it would lie on the violins."""
    if "q_z" not in qs or len(qs) > 30:
        return
    for place, z in enumerate(qs["q_z"]):
        text = f"{z:.0f}" if np.isfinite(z) and defined[place] else "–"
        axes.text(
            place, 1.01, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=7.5, color=INK
        )
    axes.text(-0.68, 1.01, "z", transform=axes.get_xaxis_transform(), va="bottom", fontsize=7.5, color=INK)


def _q_names(axes: Axes, edges: Mapping[str, pd.Series], *, alone: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names: list[tuple[Line2D | Patch, str]] = [
        (Line2D([], [], color=VERMILLION, marker="D", linestyle=""), "Q measured")
    ]
    for kind, n in edges.items():
        names.append(
            (Patch(color=NULLS[kind][1], alpha=0.6), f"{NULLS[kind][0]} ({between(n.min(), n.max(), 'edge')})")
        )
    if not edges:
        names.append(
            (Line2D([], [], color=GREY, marker="_", markersize=12, markeredgewidth=2, linestyle=""), "mean of the null")
        )
    handles, labels = [h for h, _ in names], [text for _, text in names]
    narrow = axes.get_figure(root=True).get_figwidth() < 8  # type: ignore[union-attr]
    columns = 1 if alone or narrow else 2
    axes.legend(handles, labels, ncols=columns, loc="upper left", bbox_to_anchor=(0, -0.24), borderaxespad=0)
