"""A report on the terminal: the same tables as at the end of a run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import typer

from trialplate.plugin.terminal import MOST_REASONS, measurement_table, short_reasons, summary_line, verdict_table
from trialplate.report.model import Report


def show(report: Report, folder: Path) -> None:
    """Print measurements, verdicts, reasons and the verdict line."""
    colour = sys.stdout.isatty()
    width = shutil.get_terminal_size((100, 24)).columns if colour else 200
    for text in (measurement_table(report, width, colour), verdict_table(report, width, colour)):
        if text:
            typer.echo(text + "\n")
    reasons = short_reasons(report)
    for reason in reasons[:MOST_REASONS]:
        typer.echo(f"  - {reason}")
    if len(reasons) > MOST_REASONS:
        typer.echo(f"  - and {len(reasons) - MOST_REASONS} more, in the report")
    line, paint = summary_line(report)
    typer.secho(line, fg=paint if colour else None)
    typer.echo(f"report: {folder / 'report.json'}")
