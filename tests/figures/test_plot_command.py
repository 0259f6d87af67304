"""`plot` from the command line: files in, names of pictures out, and errors without a traceback."""

import pytest
import typer
from tests.figures.examples import edges, sparsity
from typer.testing import CliRunner

from trialplate.cli.plot import plot


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command()(plot)
    return lambda *args: CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "m_sparsity.csv"
    sparsity(tasks=("code",)).to_csv(path, index=False)  # one task: lines and no map
    return path


def test_pictures_are_written_and_named(invoke, table, tmp_path):
    done = invoke(table, "--outdir", tmp_path / "out", "--metric", "gini")
    assert done.exit_code == 0, done.output
    assert done.output.split() == [str(tmp_path / "out" / "m_sparsity_plot_lines_gini.png")]
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir()) == [".csv", ".png"]


def test_a_picture_that_is_there_stays(invoke, table):
    table.with_name("m_sparsity_plot_lines_tokens.csv").write_text("old")
    again = invoke(table)
    assert again.exit_code == 2
    assert "is not overwritten" in again.stderr


def test_force_overwrites(invoke, table):
    picture = table.with_name("m_sparsity_plot_lines_tokens.png")
    picture.write_text("old")
    assert invoke(table, "--force").exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_left_out_is_said(invoke, table):
    edges().iloc[:0].to_csv(table.parent / "m_edges.csv", index=False)
    done = invoke(table.parent, "--metric", "gini")
    assert done.exit_code == 0
    assert "not drawn:" in done.stderr
    assert "m_edges.csv: no rows" in done.stderr


def test_an_error_is_one_line_and_status_2(invoke, tmp_path):
    done = invoke(tmp_path / "gone.csv")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "is not there" in done.stderr


def test_positions_that_were_not_measured_are_named(invoke, table):
    done = invoke(table, "--positions", "no_first")
    assert done.exit_code == 2
    assert "no row with positions = 'no_first'" in done.stderr
