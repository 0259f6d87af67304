"""What leaving out hidden units costs: perplexity, or divergence from the dense model, against the share of units that is kept.

Tables: `*_dynamic_k.csv`, and `*_dynamic_k_null.csv` with as many random units. Texts differ far more from each other than a text from itself
with units left out; where the table has the change paired by text (dppl_lo, dppl_hi), the intervals drawn are those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from trialplate.figures.style import (
    GREY,
    MARKERS,
    MOST_NAMES,
    ORDERED,
    PALETTE,
    FigureError,
    Picture,
    between,
    blank,
    drawing,
    joined,
    legend_beside,
    named,
    of_subject,
    panels,
    plain_log,
)
from trialplate.figures.tables import checked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Quantity = Literal["perplexity", "kl_to_dense"]
_WHOLE, _ALL_LAYERS, _CHANCE = "all", "all layers", "as many random units"
_RULES = {"topk": "top-k of each token", "threshold": "calibrated thresholds", "cett": "CETT thresholds"}
_AXES = {"perplexity": ("perplexity", ""), "kl_to_dense": ("KL to the dense model", "nats per token")}
_TITLES = {"perplexity": "Perplexity", "kl_to_dense": "Divergence from the dense model"}


class Line(NamedTuple):
    """A line of the picture: its rows, name and look."""

    rows: pd.DataFrame
    name: str
    colour: str
    width: float
    marker: str


def quality(
    frame: pd.DataFrame, quantity: Quantity = "perplexity", null: pd.DataFrame | None = None, *, subject: str = ""
) -> Picture:
    """Perplexity or KL to the dense model against the share of units that was really kept, one line a scope, a panel a rule.

    The dense level is a dashed line (perplexity where all is kept, or from dppl_pct; KL 0), 1 % above it a dotted one. With `null` a second
    row sets all layers against as many random units, which need a scale of their own. More than seven scopes are told by shade.
    Raises FigureError when no row has the quantity.
    """
    rows = _with(checked(frame, "dynamic_k"), quantity)
    lines = _scope_lines(rows)
    title = of_subject(f"{_TITLES[quantity]} against the kept share of units", subject)
    return _quality(rows, lines, quantity, title, "scope", _chance(null, quantity))


def quality_runs(frames: Mapping[str, pd.DataFrame], quantity: Quantity = "perplexity") -> Picture:
    """The same for several runs, one line a run, for the scope that covers all layers."""
    import pandas as pd

    if len(frames) > MOST_NAMES:
        raise FigureError(f"{len(frames)} runs on one axis are not told apart; compare at most {MOST_NAMES}")
    parts = []
    for name, frame in frames.items():
        own = _with(checked(frame, "dynamic_k", f"run {name}"), quantity)
        if not (own["scope"] == _WHOLE).any():
            raise FigureError(
                f"run {name} has no rows of scope {_WHOLE!r}, only {', '.join(own['scope'].unique())}; runs are compared over all layers"
            )
        parts.append(own[own["scope"] == _WHOLE].assign(run=name))
    rows = pd.concat(parts, ignore_index=True)
    lines = [Line(rows[rows["run"] == n], n, PALETTE[i], 1.5, MARKERS[i]) for i, n in enumerate(frames)]
    title = f"{_TITLES[quantity]} against the kept share of units: {len(frames)} runs"
    return _quality(rows, lines, quantity, title, "run", None)


def _with(rows: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """The rows that have the quantity, with the ends of the interval that is drawn as `low` and `high`."""
    rows = rows[rows[quantity].notna()]
    if rows.empty:
        raise FigureError(f"{quantity} is undefined in every row; there is nothing to draw")
    if not rows["kept_measured"].between(0, 1).all():
        raise FigureError(
            f"kept_measured is a share in [0, 1], got {rows['kept_measured'].min()} to {rows['kept_measured'].max()}"
        )
    if quantity == "kl_to_dense":
        return rows.assign(low=np.nan, high=np.nan)
    if "dppl_lo" not in rows:
        return rows.assign(low=rows["ppl_lo"], high=rows["ppl_hi"])
    dense = rows["perplexity"] / (1 + rows["dppl_pct"] / 100)
    return rows.assign(low=dense * (1 + rows["dppl_lo"] / 100), high=dense * (1 + rows["dppl_hi"] / 100))


def _chance(null: pd.DataFrame | None, quantity: Quantity) -> pd.DataFrame | None:
    if null is None:
        return None
    rows = _with(checked(null, "dynamic_k_null"), quantity)
    whole = rows[rows["scope"] == _WHOLE].sort_values("kept_measured")
    return None if whole.empty else whole


def _scope_lines(rows: pd.DataFrame) -> list[Line]:
    import matplotlib
    from matplotlib.colors import to_hex

    scopes = list(dict.fromkeys(rows["scope"]))
    parts = [s for s in scopes if s != _WHOLE]
    many = len(scopes) > MOST_NAMES
    lines = []
    for i, scope in enumerate(parts):
        shade = to_hex(matplotlib.colormaps[ORDERED](0.92 * i / max(1, len(parts) - 1)))
        own = rows[rows["scope"] == scope]
        lines.append(Line(own, f"{scope} alone", shade if many else PALETTE[i], 1.0, "" if many else MARKERS[i]))
    if _WHOLE in scopes:
        lines.append(Line(rows[rows["scope"] == _WHOLE], _ALL_LAYERS, PALETTE[-1], 2.0, "o"))
    return lines


def _quality(
    rows: pd.DataFrame, lines: list[Line], quantity: Quantity, title: str, what: str, chance: pd.DataFrame | None
) -> Picture:
    import pandas as pd

    rules = list(dict.fromkeys(rows["rule"]))
    n = len(rules)
    with drawing():
        figure = blank(max(6.8, 3.9 * n + 1.4), 4.2 if chance is None else 6.6, title, _footer(rows, lines))
        axes = panels(figure, n if chance is None else 2 * n, n)
        for i, rule in enumerate(rules):
            _costs(axes[i], rows, lines, rule, quantity, dense=what == "scope")
            if chance is not None:
                _against_chance(axes[n + i], rows[(rows["scope"] == _WHOLE) & (rows["rule"] == rule)], chance, quantity)
            axes[-n + i].set_xlabel("share of hidden units kept")
            axes[i].set_xlim(0, 1.03)
        for row in (axes[:n], axes[n:]):
            _one_scale(row)
        _names(figure, axes, lines, what)
    drawn = rows if chance is None else pd.concat([rows, chance], ignore_index=True)
    kept = ["scope", "rule", "kept", "kept_measured", quantity, "low", "high", "n_tokens", "n_docs"]
    return Picture(figure, drawn[[*(["run"] if "run" in rows else []), *kept]].reset_index(drop=True))


def _footer(rows: pd.DataFrame, lines: list[Line]) -> str:
    documents = between(rows["n_docs"].min(), rows["n_docs"].max(), "document")
    tokens = between(rows["n_tokens"].min(), rows["n_tokens"].max(), "token")
    bars = ""
    if rows["low"].notna().any():
        what = "of the change, paired by document" if "dppl_lo" in rows else "over documents"
        bars = f"bars: 95 % intervals {what}" + ("" if len(lines) <= MOST_NAMES else " (all layers only)")
    return joined(f"n = {documents}, {tokens}", bars)


def _one_scale(row: Sequence[Axes]) -> None:
    """Gives the panels of one row the same y axis, labelled at the left."""
    ends = [axes.get_ylim() for axes in row]
    for i, axes in enumerate(row):
        axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        if i:
            axes.tick_params(labelleft=False)
            axes.set_ylabel("")


def _costs(axes: Axes, rows: pd.DataFrame, lines: list[Line], rule: str, quantity: Quantity, *, dense: bool) -> None:
    own = rows[rows["rule"] == rule]
    for line in lines:
        bars = len(lines) <= MOST_NAMES or line.name == _ALL_LAYERS
        _curve(axes, line.rows[line.rows["rule"] == rule], line, quantity, bars=bars)
    is_log = quantity == "perplexity" and plain_log(axes, "y", float(own[quantity].min()), float(own[quantity].max()))
    axes.set_ylabel(_axis(quantity, is_log))
    axes.grid(axis="y")
    level = _dense_level(axes, own, quantity) if dense else ""
    axes.set_title(_RULES.get(rule, rule) + level)


def _axis(quantity: Quantity, is_log: bool) -> str:
    name, unit = _AXES[quantity]
    told = ", ".join(word for word in (unit, "log" if is_log else "") if word)
    return f"{name} ({told})" if told else name


def _against_chance(axes: Axes, rows: pd.DataFrame, chance: pd.DataFrame, quantity: Quantity) -> None:
    """All layers and as many random units; on a log axis a divergence of 0 has no place and is left out."""
    positive = chance[quantity] > 0
    _curve(axes, chance[positive], Line(chance, _CHANCE, GREY, 1.5, "x"), quantity, bars=True)
    whole = rows[rows[quantity] > 0]
    _curve(axes, whole, Line(whole, _ALL_LAYERS, PALETTE[-1], 2.0, "o"), quantity, bars=True)
    both = [*chance.loc[positive, quantity], *whole[quantity]]
    is_log = plain_log(axes, "y", min(both), max(both))
    axes.set_ylabel(_axis(quantity, is_log).replace(" (", "\n("))
    axes.grid(axis="y")
    axes.set_title(f"all layers against {_CHANCE} (grey)")


def _curve(axes: Axes, rows: pd.DataFrame, line: Line, quantity: Quantity, *, bars: bool) -> None:
    rows = rows.sort_values("kept_measured")
    axes.plot(
        rows["kept_measured"],
        rows[quantity],
        color=line.colour,
        linewidth=line.width,
        marker=line.marker,
        label=line.name,
        zorder=3,
    )
    ends = rows[rows["low"].notna()]
    if bars and len(ends):
        axes.vlines(ends["kept_measured"], ends["low"], ends["high"], color=line.colour, linewidth=1.1)


def dense_perplexity(rows: pd.DataFrame) -> float:
    """The dense model's perplexity: of a row that keeps all, else of any row and its dppl_pct."""
    whole = rows[rows["kept"] == 1]
    if not whole.empty:
        return float(whole["perplexity"].iloc[0])
    row = rows.iloc[0]
    return float(row["perplexity"] / (1 + row["dppl_pct"] / 100))


def _dense_level(axes: Axes, rows: pd.DataFrame, quantity: Quantity) -> str:
    """Draws the level; returns the words for it, which have no place beside lines that come close to it."""
    dense = dense_perplexity(rows) if quantity == "perplexity" else 0.0
    axes.axhline(dense, color=GREY, linestyle="--", linewidth=1, zorder=1)
    if quantity == "kl_to_dense":
        return "\ndashed: dense, 0"
    axes.axhline(1.01 * dense, color=GREY, linestyle=":", linewidth=1, zorder=1)
    return f"\ndashed: dense, {dense:.4g}; dotted: +1 %"


def _names(figure: Figure, axes: Sequence[Axes], lines: list[Line], what: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=x.colour, linewidth=x.width, marker=x.marker) for x in lines]
    if len(lines) <= MOST_NAMES:
        legend_beside(figure, handles, [named(x.name) for x in lines], what)
        return
    layers = [x for x in lines if x.name != _ALL_LAYERS]
    edges = np.arange(len(layers) + 1) - 0.5
    shades = ScalarMappable(BoundaryNorm(edges, len(layers)), ListedColormap([x.colour for x in layers]))
    bar = figure.colorbar(shades, ax=list(axes), aspect=25, pad=0.02, label="one layer alone")
    shown = range(0, len(layers), max(1, -(-len(layers) // 8)))
    bar.set_ticks(list(shown), labels=[layers[i].name.removesuffix(" alone") for i in shown])
    bar.minorticks_off()
    if len(layers) < len(lines):
        axes[0].legend(handles[-1:], [_ALL_LAYERS], loc="upper right")
