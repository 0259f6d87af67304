"""The table that a study ends with: few numbers, each with its interval and beside it what chance shows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import typer

Form = Callable[[float], str]


class Headline(NamedTuple):
    """A table for the terminal: cells are text, the first column names the row. `notes` stand below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def percent(value: float) -> str:
    """A share in percent: 8.9 %, 0.02 %."""
    shown = 100 * value
    return f"{shown:.1f} %" if shown == 0 or abs(shown) >= 0.1 else f"{shown:.2g} %"


def number(value: float) -> str:
    """A number to three digits after the point, or in three digits where it is large or small."""
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 100 else f"{value:.3g}"


def spread(value: float, ends: tuple[float, float] | None, form: Form) -> str:
    """`0.203 [0.202, 0.204]`; without ends the value alone."""
    if ends is None:
        return form(value)
    low, high = (form(end).removesuffix(" %") for end in ends)
    return f"{form(value)} [{low}, {high}]"


def show(headline: Headline) -> None:
    """Print a headline to the standard output, as wide as it needs where nobody's terminal says how wide that is."""
    from rich.console import Console
    from rich.table import Table

    colour = sys.stdout.isatty()
    table = Table(
        title=headline.title, title_justify="left", title_style="bold" if colour else "", box=None, pad_edge=False
    )
    for at, name in enumerate(headline.columns):
        table.add_column(
            name, justify="right" if at else "left", overflow="fold", header_style="bold" if colour else ""
        )
    for row in headline.rows:
        table.add_row(*row)
    width = shutil.get_terminal_size((100, 24)).columns if colour else 200
    Console(file=sys.stdout, width=width, markup=False, highlight=False, no_color=not colour).print(table)
    for note in headline.notes:
        typer.echo(note)
