"""`asa`: the program of the model core. It says its version; training and probing arrive with the core itself."""

from __future__ import annotations

from typing import Annotated

import typer

import asa

app = typer.Typer(help=asa.__doc__, no_args_is_help=True, add_completion=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asa {asa.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def info() -> None:
    """Say what this release of the model core holds."""
    typer.echo(f"asa {asa.__version__}: {asa.__doc__}")


def main() -> None:
    """Entry point of the console script."""
    app()
