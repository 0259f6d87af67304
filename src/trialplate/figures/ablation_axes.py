"""What k and width do to coders: explained variance and agreement over seeds above chance, against one of the two while the other is held.

Agreement is the share of the way from chance to identity, so its chance line is 0 whatever the width; that of explained variance is the mean of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialplate.figures.studies import Study, spread
from trialplate.figures.style import (
    BLUE,
    INK,
    SMALL,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    joined,
    of_subject,
    panels,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("axis", "size", "held", "measure", "value", "low", "high", "n_seeds")
NAMES = {"k": "k", "d_sae": "width"}
"""The two axes of a grid, as titles call them."""
_LABELS = {"k": "k: active latents a token (log)", "d_sae": "latents (log)"}
_HELD = {"k": ("d_sae", "{:,} latents"), "d_sae": ("k", "k = {:,}")}
_MEASURES = {
    "ev": ("Explained variance", "EV (1: all of it)", "0: the mean of the rows"),
    "agreement": ("Agreement over seeds, above chance", "share of the way to identity", "0: chance"),
}


def ablation_rows(study: Study, axis: str) -> pd.DataFrame:
    """The conditions of `ablation.json` along "k" or "d_sae": a row a value and measure, without a number where it was not measured."""
    import pandas as pd

    other, text = _HELD[axis]
    rows: list[tuple[Any, ...]] = []
    with study.read() as result:
        for point in result["axes"][axis]:
            one = result["conditions"][point["condition"]]
            held, found = text.format(one[other]), one.get("stability")
            numbers = {"ev": one.get("ev"), "agreement": found["adjusted"] if found else None}
            rows += [
                (axis, point["value"], held, name, *spread(numbers[name]), len(one["seeds"])) for name in _MEASURES
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(("size", "value", "low", "high"), float))


def ablation(rows: pd.DataFrame, *, subject: str = "", judged: str = "rows") -> Picture:
    """Two panels over one size. `judged`: what the rows are called that it was measured on. FigureError for fewer than two sizes with a number."""
    shown = rows[rows["value"].notna()]
    if shown["size"].nunique() < 2:
        raise FigureError(f"size is an axis from two sizes on, got {sorted(shown['size'].unique())}; extend the grid")
    axis, gone = str(rows["axis"].iloc[0]), len(rows) - len(shown)
    footer = joined(
        f"n = {counted(shown['size'].nunique(), 'condition')} of {shown['n_seeds'].max()} seeds",
        f"all with {rows['held'].iloc[0]}",
        f"on {judged}",
        "bars: 95 % intervals over seeds",
        f"{counted(gone, 'number')} missing" if gone else "",
    )
    with drawing():
        figure = blank(8.4, 3.6, of_subject(f"Coders against {NAMES[axis]}", subject), footer)
        for axes, name in zip(panels(figure, len(_MEASURES), 2), _MEASURES, strict=True):
            _panel(axes, shown[shown["measure"] == name].sort_values("size"), name)
            axes.set_xlabel(_LABELS[axis])
    return Picture(figure, rows.reset_index(drop=True))


def _panel(axes: Axes, own: pd.DataFrame, name: str) -> None:
    title, label, null = _MEASURES[name]
    axes.plot(own["size"], own["value"], color=BLUE, marker="o", markersize=6)
    axes.vlines(own["size"], own["low"].fillna(own["value"]), own["high"].fillna(own["value"]), color=BLUE, linewidth=2)
    axes.set_xscale("log")
    axes.set_xticks(own["size"].tolist(), [f"{size:,.0f}" for size in own["size"]])
    axes.minorticks_off()
    axes.margins(x=0.15)
    low, high = axes.get_ylim()
    low, high = min(low, -0.02), max(high, 0.05)
    axes.set_ylim(low, high + 0.08 * (high - low))  # room for whole marks at the top
    axes.axhline(0, color=INK, linewidth=1, linestyle="--", zorder=1)
    axes.annotate(
        null, (0.99, 0), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points", ha="right",
        va="bottom", fontsize=SMALL,
    ).set_in_layout(False)  # fmt: skip
    axes.grid(axis="y")
    axes.set_title(title)
    axes.set_ylabel(label)
