"""How the training of coders went: loss, explained variance, L0 and dead latents against tokens, a line a coder.

The curves are of batches that were learned from; what a coder is worth was measured on held-out rows and stands at the end of its line as a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trialplate.figures.studies import Curves
from trialplate.figures.style import (
    GREY,
    INK,
    MARKERS,
    MOST_NAMES,
    PALETTE,
    SMALL,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    is_lowest,
    joined,
    legend_beside,
    named,
    of_subject,
    panels,
    plain_log,
    shown_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("coder", "measure", "rows", "step", "tokens", "value")


class _Panel(NamedTuple):
    title: str
    axis: str
    null: float | None = None
    null_name: str = ""


_PANELS = {
    "loss": _Panel("Loss, as trained", "loss a token (log)"),
    "ev": _Panel("Explained variance", "EV (1: all of it)", 0.0, "0: the mean of the rows"),
    "l0": _Panel("Active latents a token", "L0 (latents)"),
    "dead_frac": _Panel("Latents that have not fired lately", "share of latents"),
}


def curve_rows(curves: Sequence[Curves]) -> pd.DataFrame:
    """A row a value: of batches at every logging step, of held-out rows at the last. FigureError for two trainings of one name."""
    import pandas as pd

    names = [one.name for one in curves]
    if len(set(names)) < len(names):
        raise FigureError(f"two trainings have one name among {', '.join(names)}; rename a folder, or draw them apart")
    rows = [
        (one.name, measure, "batch", _number(one, line, "step"), _number(one, line, "tokens"), float(line[measure]))
        for one in curves
        for measure in _PANELS
        for line in one.lines
        if line.get(measure) is not None
    ]
    rows += [
        (
            one.name,
            measure,
            "held out",
            _number(one, one.lines[-1], "step"),
            _number(one, one.lines[-1], "tokens"),
            value,
        )
        for one in curves
        for measure, value in one.held_out.items()
        if measure in _PANELS
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def training_curves(rows: pd.DataFrame, *, subject: str = "", l0_targets: Sequence[float] = ()) -> Picture:
    """Four panels; a line a coder, grey and unnamed beyond seven. l0_targets: what L0 was driven to. FigureError where nothing was logged."""
    if rows.empty:
        raise FigureError(
            "the lines of these trainings hold none of loss, ev, l0 and dead_frac; is this a metrics.ndjson?"
        )
    coders: list[str] = list(dict.fromkeys(rows["coder"]))
    shown = [name for name in _PANELS if (rows["measure"] == name).any()]
    has_held_out = bool((rows["rows"] == "held out").any())
    footer = joined(
        f"n = {counted(len(coders), 'coder')}{' (grey)' if len(coders) > MOST_NAMES else ''}",
        "lines: batches that were learned from",
        "marks at the end: held-out rows" if has_held_out else "no numbers on held-out rows yet",
        shown_of(len(shown), len(_PANELS), "measures"),
    )
    title = f"Training of {coders[0]}" if len(coders) == 1 else "Training of coders"
    with drawing():
        figure = blank(8.4, 5.6 if len(shown) > 2 else 3.6, of_subject(title, subject), footer)
        found = panels(figure, len(shown), 2)
        for i, (axes, name) in enumerate(zip(found, shown, strict=True)):
            _panel(axes, rows[rows["measure"] == name], coders, _PANELS[name])
            if name == "l0":
                _targets(axes, l0_targets)
            if name == "loss":
                values = rows.loc[rows["measure"] == name, "value"]
                plain_log(axes, "y", float(values.min()), float(values.max()))
            if is_lowest(i, len(shown), 2):
                axes.set_xlabel("tokens seen")
        if 1 < len(coders) <= MOST_NAMES:
            handles = found[0].get_lines()[: len(coders)]
            legend_beside(figure, handles, [named(coder, 20) for coder in coders])
    return Picture(figure, rows.reset_index(drop=True))


def _panel(axes: Axes, own: pd.DataFrame, coders: Sequence[str], panel: _Panel) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for i, coder in enumerate(coders):
        colour = PALETTE[i] if len(coders) <= MOST_NAMES else GREY
        line = own[(own["coder"] == coder) & (own["rows"] == "batch")]
        axes.plot(line["tokens"], line["value"], color=colour, linewidth=1.2)
    for i, coder in enumerate(coders):
        colour = PALETTE[i] if len(coders) <= MOST_NAMES else GREY
        end = own[(own["coder"] == coder) & (own["rows"] == "held out")]
        if end.empty:  # a line of no points that is not clipped would upset the layout
            continue
        axes.plot(
            end["tokens"], end["value"], linestyle="none", marker=MARKERS[i % len(MARKERS)], color=colour, markersize=7,
            markeredgecolor="white", zorder=4, clip_on=False,
        )  # fmt: skip
    axes.set_title(panel.title)
    axes.set_ylabel(panel.axis)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    if panel.null is not None:
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, panel.null - 0.02), max(high, panel.null + 0.05))
        axes.axhline(panel.null, color=INK, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(
            panel.null_name, (0.99, panel.null), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
            ha="right", va="bottom", fontsize=SMALL,
        ).set_in_layout(False)  # fmt: skip
    elif "log" not in panel.axis:
        axes.set_ylim(0, max(own["value"].max() * 1.15, 1 if "L0" in panel.axis else 0.05))


def _targets(axes: Axes, targets: Sequence[float]) -> None:
    """Lines at what L0 was driven to, named inside the axes."""
    for target in sorted(set(targets)):
        axes.axhline(target, color=INK, linewidth=1, linestyle="--", zorder=1)
        axes.set_ylim(0, max(axes.get_ylim()[1], target * 1.15))
        axes.annotate(
            f"target: {target:g}", (0.01, target), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
            ha="left", va="bottom", fontsize=SMALL,
        ).set_in_layout(False)  # fmt: skip


def _short(value: float) -> str:
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:g}{unit}"
    return f"{value:g}"


def _number(one: Curves, line: Mapping[str, object], name: str) -> float:
    found = line.get(name)
    if not isinstance(found, int | float):
        raise FigureError(
            f"{one.path}: a line has no {name!r}, which every line of a training has; is this a metrics.ndjson of a coder?"
        )
    return float(found)
