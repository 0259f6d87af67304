"""How every picture looks: colours, sizes, words around the axes, and how it becomes a file.

A `Picture` is a figure with the table of exactly the numbers in it; both are written side by side. Nothing here knows pyplot, a
display or the reader's matplotlibrc: the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from trialplate.report.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours without their yellow, which is lost on white; black comes last because text is black too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BLUE, VERMILLION, GREEN = PALETTE[:3]
GREY, PALE, INK = "#7A7A7A", "#E4E4E4", "#222222"
ORDERED = "viridis"
SHADES = "cividis"
DIVERGING = "PuOr_r"
DPI = 160
SMALL = 7.5
MOST_NAMES = len(PALETTE)
"""A legend of more lines than this is not read; what has more is labelled at its ends or told by shade."""

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": False,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.5,
    "savefig.dpi": DPI,
}

_T = TypeVar("_T")


class FigureError(ValueError):
    """Numbers that make no picture, or no honest one: the text says what was wanted, what came, where, and what to do."""


@dataclass(frozen=True)
class Picture:
    """A figure and `table`, the numbers that are drawn in it, one row a mark."""

    figure: Figure
    table: pd.DataFrame

    def png(self) -> bytes:
        """The figure as PNG; the same figure gives the same bytes."""
        buffer = io.BytesIO()
        with drawing():
            self.figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    def write(self, path: Path, *, force: bool = False) -> list[Path]:
        """Write `path` (a .png) and its table beside it under the same name with .csv; returns both.

        Raises FigureError for another ending, FileExistsError where one of the two is there and `force` is not given, OSError.
        """
        targets = files_of(path)
        if not force:
            refuse_existing(targets)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(targets[0], self.png())
        write_atomic(targets[1], self.table.to_csv(index=False, lineterminator="\n").encode())
        return targets


def files_of(path: Path) -> list[Path]:
    """The two files of a picture. Raises FigureError unless the name ends in .png."""
    if path.suffix != ".png":
        raise FigureError(
            f"a picture is written as .png with its numbers beside it as .csv, got {path}; end the name in .png"
        )
    return [path, path.with_suffix(".csv")]


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raises FileExistsError that names the first of the paths that is there."""
    for path in paths:
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not overwritten; choose another folder (--outdir), or draw over it (--force)"
            )


@contextmanager
def drawing() -> Iterator[None]:
    """Inside, matplotlib has its own defaults and ours; the settings from before come back, whatever happens."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name, value in _SETTINGS.items():
            matplotlib.rcParams[name] = value  # type: ignore[index]
        yield


def blank(width: float, height: float, title: str, footer: str = "") -> Figure:
    """An empty figure (inches) on the Agg canvas with its title and the small print below; call it inside `drawing`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(folded(title, width, 12), x=0.01, ha="left")
    if footer:
        text = figure.supxlabel(folded(footer, width, SMALL), x=0.01, ha="left", fontsize=SMALL, color="#555555")
        text.set_linespacing(1.25)
    return figure


def legend_beside(figure: Figure, handles: Sequence[Artist], names: Sequence[str], title: str = "") -> None:
    """A legend at the right, and the title folded to the width that is left, so that it ends before the legend."""
    legend = figure.legend(handles, names, title=title or None, loc="outside right upper", alignment="left")
    taken = legend.get_window_extent().width / figure.dpi
    heading = figure.get_suptitle()
    figure.suptitle(folded(heading.replace("\n", " "), figure.get_figwidth() - taken - 0.2, 12), x=0.01, ha="left")


def panels(figure: Figure, n: int, columns: int, *, share_x: bool = True, share_y: bool = False) -> list[Axes]:
    """n axes in rows of `columns`. Shared axes carry their tick labels only at the lower and the left edge."""
    columns = min(columns, n)
    rows = -(-n // columns)
    grid = figure.add_gridspec(rows, columns)
    axes: list[Axes] = []
    for i in range(n):
        first = axes[0] if axes else None
        axes.append(
            figure.add_subplot(
                grid[divmod(i, columns)], sharex=first if share_x else None, sharey=first if share_y else None
            )
        )
    for i, one in enumerate(axes):
        one.tick_params(labelbottom=not share_x or is_lowest(i, n, columns), labelleft=not share_y or i % columns == 0)
    return axes


def is_lowest(i: int, n: int, columns: int) -> bool:
    """Whether panel i of n has none below it."""
    return i + min(columns, n) >= n


def folded(text: str, inches: float, points: float) -> str:
    """Text in lines that fit a width; lines that are there stay. DejaVu Sans is a little over half as wide as it is high, bold more."""
    across = max(20, int(inches * 72 / (points * (0.62 if points >= 12 else 0.56))))
    return "\n".join(textwrap.fill(line, across, break_on_hyphens=False) for line in text.split("\n"))


def named(name: str, across: int = 18) -> str:
    """A task's or a model's name in lines of at most `across` characters, broken where names have seams (_ - / . and spaces)."""
    lines, line = [], ""
    for piece in _pieces(name):
        if line and len(line) + len(piece.rstrip()) > across:
            lines.append(line.rstrip())
            line = ""
        line += piece
        while len(line.rstrip()) > across:
            lines.append(line[:across])
            line = line[across:]
    return "\n".join([*lines, line.rstrip()] if line.strip() else lines)


def shortened(name: str, across: int = 24) -> str:
    """A name in one line of at most `across` characters, its middle left out: for labels that stand on end."""
    return name if len(name) <= across else f"{name[: across // 2]}…{name[-(across - across // 2 - 1) :]}"


def _pieces(name: str) -> Iterator[str]:
    start = 0
    for i, character in enumerate(name):
        if character in "_-/. ":
            yield name[start : i + 1]
            start = i + 1
    yield name[start:]


def evenly(values: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the values, spread over all of them, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    if most == 1:
        return [values[len(values) // 2]]
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def layer_ticks(axes: Axes, places: Sequence[float], layers: Sequence[int], most: int = 12) -> None:
    """Whole layer numbers on the x axis, every second or fifth of them where there are many."""
    step = next((s for s in (1, 2, 5, 10, 20, 50) if -(-len(layers) // s) <= most), 100)
    chosen = [(p, n) for i, (p, n) in enumerate(zip(places, layers, strict=True)) if i % step == 0]
    axes.set_xticks([p for p, _ in chosen], [str(n) for _, n in chosen])


def part_cells(axes: Axes, rows: int, columns: int) -> None:
    """White lines between the cells of a map. Not a grid of minor ticks: each of those is laid out as if it had a label."""
    axes.hlines([i - 0.5 for i in range(1, rows)], -0.5, columns - 0.5, color="white", linewidth=0.8)
    axes.vlines([i - 0.5 for i in range(1, columns)], -0.5, rows - 0.5, color="white", linewidth=0.8)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))


def written(axes: Axes, row: int, column: int, text: str, colour: str, *, bold: bool = False) -> None:
    """A number in a cell of a map. It takes no part in the layout: it is inside the axes anyway."""
    weight = "bold" if bold else "normal"
    axes.text(
        column, row, text, color=colour, fontweight=weight, fontsize=SMALL, ha="center", va="center"
    ).set_in_layout(False)


def plain_log(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> bool:
    """Make an axis logarithmic with plain numbers on it, if the values span more than a factor of 5; returns whether it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    if not 0 < 5 * low < high:
        return False
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.minorticks_off()
    return True


def counted(n: int, one: str, many: str = "") -> str:
    """`1 task`, `6 tasks`, `12,000 tokens`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def between(low: float, high: float, one: str, many: str = "") -> str:
    """`512 documents`, `500–512 documents`: how many there are in each of several parts."""
    if low == high:
        return counted(int(low), one, many)
    return f"{int(low):,}–{int(high):,} {many or one + 's'}"


def of_subject(title: str, subject: str) -> str:
    """The title with the model's or the run's name after it."""
    return f"{title}: {subject}" if subject else title


def shown_of(shown: int, there: int, what: str) -> str:
    """What a picture leaves out for the sake of its reader, or nothing."""
    return "" if shown == there else f"{shown} of {there} {what} shown"


def joined(*parts: str) -> str:
    """Footers in one line: the parts that say something."""
    return ";  ".join(p for p in parts if p)
