"""What coders explain against how many latents they use for it: a point a coder, or a line an architecture, with intervals both ways.

The axis of explained variance is spaced by the logarithm of what is lost, 1 - EV: from 0.90 to 0.95 is as far as from 0 to 0.5, since both halve
the error. Its line at 0 is what the mean of the rows explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trialplate.figures.studies import Study, spread
from trialplate.figures.style import (
    GREY,
    INK,
    MARKERS,
    MOST_NAMES,
    PALE,
    PALETTE,
    SMALL,
    FigureError,
    Picture,
    blank,
    counted,
    drawing,
    joined,
    legend_beside,
    of_subject,
    plain_log,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("line", "target", "status", "l0", "l0_low", "l0_high", "ev", "ev_low", "ev_high")
RANDOM = "random coder (learned nothing)"
"""The control of a coder, drawn grey and hollow."""
_LEAST_LOST = 1e-6
_FAR = 0.8  # share of the width from which a number at the right of its point would leave the axes
_MOST_VALUES = 4  # more points than this are not told by number
_EV_TICKS = (-9, -3, -1, 0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


def frontier_points(study: Study) -> pd.DataFrame:
    """The cells of `frontier.json`: a row an architecture and target, without numbers where the status is "missing"."""
    with study.read() as result:
        return _frame(
            (cell["architecture"], float(cell["target"]), cell["status"], *_numbers(cell)) for cell in result["cells"]
        )


def coder_points(study: Study) -> pd.DataFrame:
    """The coder of `eval.json`, and the random coder of the same L0 beside it."""
    with study.read() as result:
        sides = {result["coder"]["architecture"]: result["core"], RANDOM: result["random"]}
        return _frame(
            (name, None, "measured", *_numbers(core["estimates"])) for name, core in sides.items() if core is not None
        )


def frontier(points: pd.DataFrame, *, subject: str = "", note: str = "", judged: str = "rows") -> Picture:
    """Explained variance against L0, a line an architecture; cells that missed their target are hollow, missing ones are named below. `judged`: what the
    rows are called that it was measured on.

    FigureError where no cell has numbers, and for more architectures than are told apart."""
    shown = points[points["ev"].notna()].sort_values("l0", kind="stable")
    if shown.empty:
        raise FigureError(
            "all cells of the frontier are missing, so there is nothing to draw; see the study's summary.md"
        )
    lines: list[str] = list(dict.fromkeys(points["line"]))
    if len(lines) > MOST_NAMES:
        raise FigureError(f"{len(lines)} architectures on one axis are not told apart; draw at most {MOST_NAMES}")
    footer = joined(note, _intervals(shown), _missed(points), _asked(points), _better(points))
    with drawing():
        figure = blank(7.4, 4.8, of_subject("Variance explained against active latents", subject), footer)
        axes = figure.add_subplot()
        ordinary = [line for line in lines if line != RANDOM]
        for i, line in enumerate(ordinary):
            _line(axes, shown[shown["line"] == line], line, PALETTE[i], MARKERS[i])
        _line(axes, shown[shown["line"] == RANDOM], RANDOM, GREY, "o", hollow=True)
        _axes(axes, shown, judged)
        if len(shown) <= _MOST_VALUES:
            _values(axes, shown)
        _legend(figure, axes, shown)
    return Picture(figure, points.reset_index(drop=True))


def _line(axes: Axes, own: pd.DataFrame, name: str, colour: str, marker: str, *, hollow: bool = False) -> None:
    if own.empty:
        return
    axes.plot(own["l0"], own["ev"], color=colour, zorder=2)
    for x, (low, high) in zip(own["l0"], _ends(own, "ev"), strict=True):
        axes.vlines(x, low, high, color=colour, linewidth=1.3, zorder=2)
        axes.hlines([low, high], x * 0.985, x * 1.015, color=colour, linewidth=1.3, zorder=2)
    for y, (low, high) in zip(own["ev"], _ends(own, "l0"), strict=True):
        axes.hlines(y, low, high, color=colour, linewidth=1.3, zorder=2)
    empty = (own["status"] == "unmatched") | hollow
    for is_empty, label in ((False, name), (True, name if hollow else f"{name}, off its target")):
        some = own[empty == is_empty]
        if len(some):
            face = "white" if is_empty else colour
            axes.plot(
                some["l0"], some["ev"], linestyle="none", marker=marker, color=colour, markerfacecolor=face,
                markersize=6, label=label, zorder=3,
            )  # fmt: skip


def _values(axes: Axes, shown: pd.DataFrame) -> None:
    """The numbers beside their points, on the side that has room."""
    place = axes.transScale + axes.transLimits
    for x, y in zip(shown["l0"], shown["ev"], strict=True):
        is_far = place.transform((x, y))[0] > _FAR
        axes.annotate(
            f"EV {y:.3f}", (x, y), xytext=(-11 if is_far else 11, 0), textcoords="offset points", va="center", fontsize=8,
            ha="right" if is_far else "left",
        )  # fmt: skip


def _ends(own: pd.DataFrame, name: str) -> list[tuple[float, float]]:
    low, high = own[f"{name}_low"].fillna(own[name]), own[f"{name}_high"].fillna(own[name])
    return list(zip(low, high, strict=True))


def _axes(axes: Axes, shown: pd.DataFrame, judged: str) -> None:
    def lost(ev: Any) -> Any:
        return -np.log10(np.maximum(1 - np.asarray(ev, float), _LEAST_LOST))

    axes.set_yscale("function", functions=(lost, lambda y: 1 - 10.0 ** -np.asarray(y, float)))
    low = min(0.0, float(shown["ev_low"].fillna(shown["ev"]).min()))
    high = float(shown["ev_high"].fillna(shown["ev"]).max())
    top = 1 - (1 - min(high, 1 - _LEAST_LOST)) * 0.7
    axes.set_ylim(1 - (1 - low) * 1.12, max(top, 0.3))
    ticks = [tick for tick in _EV_TICKS if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.axhline(0, color=INK, linewidth=1, linestyle="--", zorder=1)
    least, most = float(shown["l0"].min()), float(shown["l0"].max())
    targets = sorted(shown["target"].dropna().unique())
    for target in targets:
        axes.axvline(target, color=PALE, linewidth=1.2, zorder=0)
    if not plain_log(axes, "x", least, most):
        axes.set_xlim(min(0, least * 0.9), most * 1.4)
    else:
        axes.set_xlim(least * 0.75, most * 1.35)
        if targets and least > targets[0] / 1.5 and most < targets[-1] * 1.5:
            axes.set_xticks(targets, [f"{target:g}" for target in targets])
    axes.annotate(
        "0: no better than the mean of the rows", (0.99, 0), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", ha="right", va="bottom", fontsize=SMALL, color=INK,
    )  # fmt: skip
    axes.set_xlabel("L0: active latents a token")
    axes.set_ylabel(f"explained variance on {judged}\n(spaced by the log of what is lost)")


def _legend(figure: Any, axes: Axes, shown: pd.DataFrame) -> None:
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        legend_beside(figure, handles, [name.replace(" (", "\n(") for name in names])
    else:
        axes.set_title(names[0])


def _intervals(shown: pd.DataFrame) -> str:
    if shown["ev_low"].notna().any():
        return f"n = {counted(len(shown), 'point')};  bars: 95 % intervals of both numbers"
    return f"n = {counted(len(shown), 'point')}, without intervals"


def _missed(points: pd.DataFrame) -> str:
    gone = points[points["ev"].isna()]
    names = ", ".join(f"{line} at {target:g}" for line, target in zip(gone["line"], gone["target"], strict=True))
    return joined(
        f"missing: {names}" if names else "",
        "hollow: the L0 of a seed misses its target" if (points["status"] == "unmatched").any() else "",
    )


def _asked(points: pd.DataFrame) -> str:
    return "vertical lines: the targets of L0" if points["target"].notna().any() else ""


def _better(points: pd.DataFrame) -> str:
    """Where to look for what is better: hollow points have another L0 than was asked for, and are not compared."""
    return "upper left is better" + (" (among filled ones)" if (points["status"] == "unmatched").any() else "")


def _numbers(found: Any) -> Sequence[float | None]:
    both = (spread(found["l0"]), spread(found["ev"])) if "ev" in found else (spread(None), spread(None))
    return [number for one in both for number in one]


def _frame(rows: Any) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for name in ("target", *COLUMNS[3:]):
        frame[name] = frame[name].astype(float)
    return frame
