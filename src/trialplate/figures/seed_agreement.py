"""How alike coders of several seeds are, against chance: each pair of seeds as a dot, their mean with its interval, and the chance level of that very
similarity as a tick; beside it the same as a share of the way from chance to identity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialplate.figures.studies import Study, spread
from trialplate.figures.style import (
    BLUE,
    GREY,
    INK,
    SMALL,
    FigureError,
    Picture,
    blank,
    drawing,
    joined,
    named,
    of_subject,
    shown_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("group", "what", "value", "low", "high", "n_seeds")
MOST_GROUPS = 12
_CONTROL = "(control)"
_SHARED_AT = 0.7  # the cosine of a shared latent, where a result does not say another
_NAMES = {
    "trained": "trained coders",
    "random": "random directions (control)",
    "untrained": "untrained coders (control)",
    "twin": "coders of a random model (control)",
    "transcoder": "transcoders",
    "autoencoder": "autoencoders",
    "matched_cosine": "cosine, matched one to one",
    "mean_max_cosine": "cosine with the nearest",
    "mutual_nearest": "share that are mutually nearest",
    "matched_cosine_all_latents": "cosine, matched, dead latents too",
    "matched_cosine_by_frequency": "cosine, matched, by firing frequency",
    "shared_fraction": "pairs whose encoder and decoder cosines both reach {at:g}",
    "function_correlation": "correlation of activations",
}


def arm_rows(study: Study) -> pd.DataFrame:
    """The arms of `phase4a.json`: trained coders and their controls, in one similarity."""
    with study.read() as result:
        arms = [(n, result[n]) for n in ("trained", "untrained", "twin", "random") if result[n] is not None]
        return _frame(row for name, arm in arms for row in _rows(_NAMES[name], arm))


def statistic_rows(study: Study) -> pd.DataFrame:
    """The similarities of `stability.json`, each with the chance level of its own."""
    at = float((study.config.get("options") or {}).get("shared_at", _SHARED_AT))
    with study.read() as result:
        named_ones = ((_NAMES.get(name, name).format(at=at), one) for name, one in result["statistics"].items())
        return _frame(row for name, one in named_ones for row in _rows(name, one))


def kind_rows(study: Study) -> pd.DataFrame:
    """Both kinds of coders of every condition of `transcoder.json`."""
    with study.read() as result:
        several = len(result["conditions"]) > 1
        return _frame(
            row
            for one in result["conditions"]
            for kind in ("transcoder", "autoencoder")
            for row in _rows(_NAMES[kind] + (f", {one['key'][:8]}" if several else ""), one[kind]["stability"])
        )


def agreement(
    rows: pd.DataFrame,
    *,
    title: str = "Agreement of coders over seeds",
    subject: str = "",
    note: str = "",
    least: float | None = None,
) -> Picture:
    """A row a group: pairs, mean and chance at the left, the adjusted score at the right. `least`: the adjusted score that was asked for.

    At most 12 groups. FigureError for no rows."""
    if rows.empty:
        raise FigureError("no similarity was measured, so there is nothing to draw")
    there: list[str] = list(dict.fromkeys(rows["group"]))
    groups = there[:MOST_GROUPS]
    seeds = sorted({int(n) for n in rows["n_seeds"]})
    footer = joined(
        note,
        f"n = {'–'.join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))} seeds;  bars: 95 % intervals over seeds",
        shown_of(len(groups), len(there), "rows"),
    )  # fmt: skip
    with drawing():
        figure = blank(8.6, 1.9 + 0.46 * len(groups), of_subject(title, subject), footer)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        for place, group in enumerate(groups):
            _raw(left, rows[rows["group"] == group], place)
            _adjusted(right, rows[rows["group"] == group], place)
        _finish(left, right, groups, least)
    return Picture(figure, rows[rows["group"].isin(groups)].reset_index(drop=True))


def _raw(axes: Axes, own: pd.DataFrame, place: int) -> None:
    def of(what: str) -> pd.DataFrame:
        return own[own["what"] == what]

    first = place == 0
    chance = of("chance").iloc[0]
    axes.vlines(
        chance["value"], place - 0.36, place + 0.36, color=INK, linewidth=1.6, linestyle=(0, (2, 1)),
        label="chance: random directions of this shape" if first else "", zorder=2,
    )  # fmt: skip
    pairs = of("pair")["value"].tolist()
    axes.plot(
        pairs, [place + 0.24] * len(pairs), linestyle="none", marker="o", markersize=3, markerfacecolor="none", color=GREY,
        label="one pair of seeds" if first else None, zorder=3,
    )  # fmt: skip
    _dot(axes, of("raw").iloc[0], place, "mean over pairs" if first else None)


def _adjusted(axes: Axes, own: pd.DataFrame, place: int) -> None:
    found = own[own["what"] == "adjusted"].iloc[0]
    _dot(axes, found, place, None)
    edge = found["high"] if found["high"] == found["high"] else found["value"]
    axes.annotate(
        f"{found['value']:.2f}".replace("-0.00", "0.00"),
        (edge, place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
    )


def _dot(axes: Axes, one: Any, place: int, label: str | None) -> None:
    is_control = str(one["group"]).endswith(_CONTROL)
    colour = GREY if is_control else BLUE
    if one["low"] == one["low"]:
        axes.hlines(place, one["low"], one["high"], color=colour, linewidth=2, zorder=3)
        axes.vlines([one["low"], one["high"]], place - 0.1, place + 0.1, color=colour, linewidth=1.2, zorder=3)
    axes.plot(
        [one["value"]], [place], linestyle="none", marker="D" if is_control else "o", color=colour, markersize=6,
        markerfacecolor="white" if is_control else colour, label=label, zorder=4,
    )  # fmt: skip


def _finish(left: Axes, right: Axes, groups: Sequence[str], least: float | None) -> None:
    left.set_yticks(range(len(groups)), [named(group, 24) for group in groups])
    left.set_ylim(len(groups) - 0.4, -0.6)
    left.set_xlabel("similarity (1: identical)")
    low, high = left.get_xlim()
    left.set_xlim(min(low, 0), max(high, 0.1) if high < 1 else high)
    right.set_xlabel("share of the way from chance to identity")
    right.axvline(0, color=INK, linewidth=1.2, linestyle="--", zorder=1)
    right.annotate(
        "chance", (0, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points", ha="center",
        va="bottom", fontsize=SMALL, color=INK,
    )  # fmt: skip
    if least is not None:
        right.axvline(least, color=GREY, linewidth=1, linestyle=":", zorder=1)
        right.annotate(
            f"least asked: {least:g}", (least, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points",
            ha="left", va="bottom", fontsize=SMALL, color="#555555",
        )  # fmt: skip
    low, high = right.get_xlim()
    right.set_xlim(low, high + 0.14 * (high - low))
    for axes in (left, right):
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    right.tick_params(labelleft=False)
    left.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=1, borderaxespad=0.2, handlelength=1.4)


def _rows(group: str, one: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    n = int(one["n_seeds"])
    for what in ("raw", "chance", "adjusted"):
        yield group, what, *spread(one[what]), n
    for pair in one["pairs"]:
        yield group, "pair", float(pair), None, None, n


def _frame(rows: Iterator[tuple[Any, ...]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("value", "low", "high"), float))
