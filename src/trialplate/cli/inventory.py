"""`trialplate inventory` and `trialplate seal`: what a folder of notebooks and scripts holds, and whether an archive is as it was sealed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trialplate.inventory.model import Inventory


def inventory(
    folder: Annotated[Path, typer.Argument(help="A folder of notebooks (.ipynb) and scripts (.py).")],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a page of Markdown, as in docs/EXPERIMENTS.md.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False,
) -> None:
    """List the notebooks and scripts of a folder: purpose, definitions, metrics, files written, classes defined twice. Nothing of it is run."""
    from trialplate.inventory.files import FolderError
    from trialplate.inventory.scan import scan

    if markdown and json_:
        raise typer.BadParameter("give --markdown or --json, not both")
    try:
        found = scan(folder)
    except FolderError as e:
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(2) from e
    if json_:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    elif markdown:
        from trialplate.inventory.page import markdown as page

        typer.echo(page(found), nl=False)
    else:
        _show(found, folder)


def _show(found: Inventory, folder: Path) -> None:
    from rich.console import Console

    from trialplate.inventory.page import differences, table

    if not found.entries:
        typer.echo(f"no notebook and no script (.ipynb, .py) in {folder}")
        return
    Console(width=None if sys.stdout.isatty() else 200).print(table(found))
    for line in differences(found):
        typer.echo(line)
    broken = sum(bool(e.problems) for e in found.entries)
    typer.echo(f"{len(found.entries)} files" + (f", {broken} of them not read, or not whole" if broken else ""))


def seal(
    folder: Annotated[Path, typer.Argument(help="An archive, such as building_blocks.")],
    append: Annotated[bool, typer.Option("--append", help="Seal the files that are not sealed yet.")] = False,
) -> None:
    """Compare an archive with its MANIFEST.sha256, or let the seal grow. Exit status 0 only if every file is as it was sealed."""
    from trialplate.inventory import seal as archive

    try:
        added = archive.append(folder) if append else []
        found = archive.inspect(folder)
    except archive.SealError as e:
        typer.echo(f"error: {e}", err=True)
        raise typer.Exit(2) from e
    for name in added:
        typer.echo(f"sealed: {name}")
    for problem in found.problems:
        typer.echo(str(problem), err=True)
    typer.echo(f"{folder}: {len(found.intact)} of {len(found.names)} files as sealed")
    raise typer.Exit(1 if found.problems else 0)
