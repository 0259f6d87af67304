"""`trialplate plot`: pictures of tables, run folders and reports, each with the numbers that are in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Tables (.csv), run folders or reports; of two reports the first is the baseline."),
    ],
    outdir: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures; default: beside the table, or figures/ of a run folder."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric of a table of sparsity or scaling; repeatable.")
    ] = None,
    positions: Annotated[
        str | None, typer.Option(help="Lines of sparsity over these positions: all or no_first (without position 0).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite pictures that are there.")] = False,
) -> None:
    """Draw every picture that the files allow: one run by layer and task, several runs over each other, two reports against each other.

    Beside each .png lies the .csv of the numbers in it. Nothing is overwritten without --force.
    """
    from trialplate.figures.from_files import draw, plan
    from trialplate.figures.style import FigureError

    try:
        planned = plan(paths, outdir, metrics=metric or (), positions=positions)
        written = draw(planned, force=force)
    except (FigureError, OSError) as e:
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(2) from e
    for reason in planned.left_out:
        typer.echo(f"not drawn: {reason}", err=True)
    for path in written:
        if path.suffix == ".png":
            typer.echo(str(path))
