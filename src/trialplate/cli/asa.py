"""`asa`: the program of the model core. It says its version; training and probing arrive with the core itself."""

from __future__ import annotations

import typer

import asa
from trialplate.cli.version import add_version

app = typer.Typer(help=asa.__doc__, no_args_is_help=True, add_completion=False)
add_version(app, "asa", asa.__version__)


@app.command()
def info() -> None:
    """Say what this release of the model core holds."""
    typer.echo(f"asa {asa.__version__}: {asa.__doc__}")


def main() -> None:
    """Entry point of the console script."""
    app()
