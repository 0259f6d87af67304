"""A group of options: its fields are options of the command, with their defaults, checks and help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from trialplate.cli.option_groups import grouped


@dataclass(frozen=True)
class Where:
    """Two options, one of them required."""

    site: Annotated[str, typer.Option("--hook-name", "--site", help="The place.")]
    folder: Annotated[Path, typer.Option()] = Path("runs")


def run(*arguments):
    taken = []

    @grouped
    def command(where: Where, k: Annotated[int, typer.Option(min=1)] = 8) -> None:
        """What it does."""
        taken.append((where, k))

    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, list(arguments))
    return done, taken


def test_a_command_takes_the_group_as_one_argument():
    done, taken = run("--site", "a", "--k", "3")
    assert done.exit_code == 0
    assert taken == [(Where("a", Path("runs")), 3)]
    assert run("--hook-name", "b", "--folder", "c")[1] == [(Where("b", Path("c")), 8)]


def test_what_is_required_and_what_is_checked_stays_so():
    assert run("--k", "3")[0].exit_code == 2
    assert run("--site", "a", "--k", "0")[0].exit_code == 2


def test_help_has_them_all():
    text = run("--help")[0].output
    for part in ("What it does.", "--site", "The place.", "--folder", "--k"):
        assert part in text


def test_an_option_from_two_places_is_an_error():
    with pytest.raises(TypeError, match="'folder' comes from two places"):

        @grouped
        def command(where: Where, folder: Annotated[Path, typer.Option()] = Path()) -> None:
            pass
