"""`asa`: the program of the model core. Checks it, trains a small model, probes one, says its version. Commands import what is heavy when they run."""

from __future__ import annotations

import typer

import asa
from trialplate.cli.asa_probe import probe
from trialplate.cli.asa_smoke import smoke
from trialplate.cli.asa_train import train_mini
from trialplate.cli.version import add_version

app = typer.Typer(help=asa.__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
add_version(app, "asa", asa.__version__)
app.command()(smoke)
app.command()(train_mini)
app.command()(probe)


@app.command()
def info() -> None:
    """Say what this release of the model core holds."""
    typer.echo(f"asa {asa.__version__}: {asa.__doc__}")


def main() -> None:
    """Entry point of the console script."""
    app()
