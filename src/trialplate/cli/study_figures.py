"""Pictures of the tables of a study that is being written, into its figures/."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import typer


class Folder(Protocol):
    """A folder in the making: where it is now, and the name that it takes at the end."""

    @property
    def path(self) -> Path: ...
    @property
    def final(self) -> Path: ...


def draw_figures(folder: Folder) -> int:
    """Draw what the tables of a folder allow; returns the number of pictures. What is not drawn is said on the error stream, and the tables stay."""
    from trialplate.figures.from_files import Plan, draw, plan
    from trialplate.figures.style import FigureError

    def tell(reason: object) -> None:
        typer.echo(f"note: not drawn: {str(reason).replace(str(folder.path), str(folder.final))}", err=True)

    try:
        planned = plan([folder.path])
    except FigureError as error:
        tell(error)
        return 0
    for reason in planned.left_out:
        tell(reason)
    n_drawn = 0
    for path, make in planned.jobs.items():
        try:
            draw(Plan({path: make}))
            n_drawn += 1
        except FigureError as error:
            tell(error)
    return n_drawn
