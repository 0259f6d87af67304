"""How a command about coders ends: a result file under its role with summary, manifest and log, a short table, and where it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from trialplate.cli.headlines import Headline, number, show, spread
from trialplate.cli.sae_figures import draw_result
from trialplate.cli.sae_inputs import Opened, RunOptions, command_line

if TYPE_CHECKING:
    from trialplate.sae.programs.runs import StudyRun

Result = Mapping[str, Any]


def study(
    ctx: typer.Context,
    run: RunOptions,
    role: str,
    config: Mapping[str, Any],
    work: Callable[[StudyRun], dict[str, Any]],
    summary: Callable[[Result], str],
    headline: Callable[[Result], Headline],
) -> dict[str, Any]:
    """Do the work in a new folder of a study and say what came of it. The result as it was written; errors are the work's own."""
    from trialplate.sae.programs.results import plain
    from trialplate.sae.programs.runs import study_run

    with study_run(run.output_dir, role, command_line(ctx), {**config, "seed": run.seed}) as folder:
        result: dict[str, Any] = plain(work(folder))
        folder.result(result)
        folder.summary(summary(result))
        if run.plot:
            draw_result(folder)
    show(headline(result))
    typer.echo(f"written: {folder.final}")
    return result


def with_rows(opened: Opened, result: dict[str, Any]) -> dict[str, Any]:
    """The result with what is known of the model that its rows are of."""
    weights = "" if opened.model is None else opened.model.weights_digest
    result["subject"] = {**result["subject"], "model": opened.model_name, "weights": weights}
    return result


def progress(condition: str, n: int) -> None:
    """A line on the error stream when the coders of a condition are done, where somebody is looking."""
    import sys

    if sys.stderr.isatty():
        typer.echo(f"{n} coders of {condition[:8]} are done", err=True)


def cell(found: Mapping[str, Any] | float | None) -> str:
    """An estimate as results hold it, or a number, for a table; nothing where there is none."""
    if found is None:
        return ""
    if not isinstance(found, Mapping):
        return number(float(found))
    ends = None if found["ci"] is None else (found["ci"][0], found["ci"][1])
    return spread(found["value"], ends, number)
