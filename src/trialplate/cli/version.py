"""`--version`, the same for every program."""

from typing import Annotated

import typer


def add_version(app: typer.Typer, name: str, version: str) -> None:
    """Give a program the option `--version`, which prints `NAME VERSION` and ends it."""

    def say(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{name} {version}")
            raise typer.Exit

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=say, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Options of the program itself."""
