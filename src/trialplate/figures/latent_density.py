"""How often the latents of a coder fire: a histogram over the logarithm of density, the dead ones apart, a coder that learned nothing as an outline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trialplate.figures.studies import Study
from trialplate.figures.style import (
    BLUE,
    INK,
    SMALL,
    VERMILLION,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    joined,
    of_subject,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CODER, RANDOM = "coder", "random"
COLUMNS = ("side", "log10_from", "log10_to", "latents", "dead", "n_tokens")
_DENSE = 0.1
_DEAD_AT, _WIDE = 0.55, 0.4  # decades left of the axis, and how wide the bar of dead latents is


def density_rows(study: Study) -> pd.DataFrame:
    """The histograms of `eval.json`: a row a bin of log10 density, of the coder and of its random control. `dead` is the same in all rows of a side."""
    import pandas as pd

    with study.read() as result:
        rows = [
            (side, low, high, n, core["density"]["dead"], core["n_tokens"])
            for side, core in ((CODER, result["core"]), (RANDOM, result["random"]))
            if core is not None
            for low, high, n in zip(
                core["density"]["log10_edges"][:-1],
                core["density"]["log10_edges"][1:],
                core["density"]["latents"],
                strict=True,
            )
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[1:], float))


def density(rows: pd.DataFrame, *, subject: str = "", judged: str = "rows") -> Picture:
    """Share of latents by density, the coder's as bars, the random coder's as a line in steps. `judged`: what the rows are called that it was counted
    on. FigureError without a coder's rows."""
    own, other = rows[rows["side"] == CODER], rows[rows["side"] == RANDOM]
    if own.empty:
        raise FigureError(
            "the histogram of the coder's own latents is not there; measure it again with `trialplate sae eval`"
        )
    n, tokens = _latents(own), int(own["n_tokens"].iloc[0])
    footer = joined(
        f"n = {counted(n, 'latent')}, {tokens:,} {judged}",
        "density: share of rows on which a latent is not 0",
        f"dead: on none of these rows; rarer than 1 in {tokens:,} is not seen" if tokens else "",
    )
    with drawing():
        figure = blank(7.4, 4.2, of_subject("How often latents fire", subject), footer)
        axes = figure.add_subplot()
        _bars(axes, own)
        if not other.empty:
            _outline(axes, other)
        _axes(axes, rows)
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(0.12, 1.0))
    return Picture(figure, rows.reset_index(drop=True))


def _latents(side: pd.DataFrame) -> int:
    return int(side["latents"].sum() + side["dead"].iloc[0])


def _bars(axes: Axes, own: pd.DataFrame) -> None:
    n, dead = _latents(own), float(own["dead"].iloc[0])
    widths = own["log10_to"] - own["log10_from"]
    colours = [VERMILLION if high > np.log10(_DENSE) + 1e-9 else BLUE for high in own["log10_to"]]
    axes.bar(
        own["log10_from"], 100 * own["latents"] / n, widths, align="edge", color=colours, edgecolor="white", linewidth=0.5,
        label="this coder",
    )  # fmt: skip
    axes.bar(
        float(own["log10_from"].min()) - _DEAD_AT,
        100 * dead / n,
        _WIDE,
        color="#444444",
        hatch="///",
        edgecolor="white",
    )
    dense = float(own.loc[own["log10_to"] > np.log10(_DENSE) + 1e-9, "latents"].sum())
    axes.text(
        np.log10(_DENSE) + 0.04, 0.98, f"dense: {100 * dense / n:.1f} %\nfire on over 10 %", transform=axes.get_xaxis_transform(),
        va="top", fontsize=SMALL, color=VERMILLION,
    )  # fmt: skip
    axes.axvline(np.log10(_DENSE), color=VERMILLION, linewidth=0.8, linestyle=":")


def _outline(axes: Axes, other: pd.DataFrame) -> None:
    n, dead = _latents(other), float(other["dead"].iloc[0])
    edges = [*other["log10_from"], float(other["log10_to"].iloc[-1])]
    axes.stairs(
        100 * other["latents"] / n,
        edges,
        color=INK,
        linewidth=1.4,
        label="random coder of the same L0 (learned nothing)",
    )
    centre = float(other["log10_from"].min()) - _DEAD_AT
    axes.hlines(100 * dead / n, centre - _WIDE / 2, centre + _WIDE / 2, color=INK, linewidth=1.4)


def _axes(axes: Axes, rows: pd.DataFrame) -> None:
    low = float(rows["log10_from"].min())
    decades = range(int(np.ceil(low)), 1)
    labels = ["1" if d == 0 else f"{10.0**d:g}" if d > -4 else f"$10^{{{d}}}$" for d in decades]
    own = rows[rows["side"] == CODER]
    share = 100 * float(own["dead"].iloc[0]) / _latents(own)
    axes.set_xticks([low - _DEAD_AT, *decades], [f"dead\n{share:.1f} %", *labels])
    axes.set_xlim(low - 2 * _DEAD_AT, 0.1)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.22)
    axes.grid(axis="y")
    axes.set_xlabel("density of a latent (log)")
    axes.set_ylabel("latents (%)")
