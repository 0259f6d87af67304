"""`trialplate sae external`: the official SAEBench and CE-Bench packages, where they are installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trialplate.cli import sae_inputs as sae
from trialplate.cli import study_inputs as inputs
from trialplate.cli.option_groups import grouped
from trialplate.cli.sae_headlines import run_officially
from trialplate.cli.sae_runs import study


@grouped
def external(
    ctx: typer.Context,
    run: sae.RunOptions,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A coder in the files of SAELens, as `sae train` writes it.")
    ] = None,
    model_name: Annotated[
        str, typer.Option("--model-name", "--model", help="The model as TransformerLens names it.")
    ] = "",
    hook_name: Annotated[str, typer.Option("--hook-name", "--site", help="The site as TransformerLens names it.")] = "",
    benchmarks: Annotated[
        list[str] | None,
        typer.Option("--benchmarks", help="saebench_core saebench_probing cebench; several may follow; default all."),
    ] = None,
    saebench_command: Annotated[
        str | None,
        typer.Option(
            help="One command in place of those of SAEBench: a program with its arguments, or a JSON list. No shell reads it."
        ),
    ] = None,
    cebench_command: Annotated[str | None, typer.Option(help="One command in place of that of CE-Bench.")] = None,
    cebench_repository: Annotated[Path | None, typer.Option(help="A clone of CE-Bench, which is no package.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Pairs for CE-Bench (JSON Lines), in place of the hub's.")] = None,
    python: Annotated[str, typer.Option(help="The interpreter that has the packages.")] = sys.executable,
    execute: Annotated[bool, typer.Option("--execute", help="Run the commands; otherwise say what would run.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that a command may take.")] = 3600.0,
    online: inputs.Online = False,
) -> None:
    """Run the official benchmark packages on a coder: each command without a shell, with its own log, return code and time.

    A dry run unless --execute is given. With it the exit status is the worst of the commands; 4 where one was skipped, for want of a package, say."""
    with sae.told():
        from trialplate.sae.programs.official import OfficialOptions, commands_of, external_summary, run_external

        given = {"saebench": saebench_command, "cebench": cebench_command}
        replaced = {name: text for name, text in given.items() if text is not None}
        place = sae.the_one(checkpoint) if checkpoint else None
        if place is not None and model_name:
            sae.require_model(sae.read_coders([place], run.device)[0].config.model, model_name)
        options = OfficialOptions(
            place,
            model_name,
            hook_name,
            _asked(benchmarks, place, set(replaced)),
            replaced,
            python,
            cebench_repository,
            pairs,
            run.device,
            run.seed,
            execute,
            timeout,
            online,
        )
        commands = commands_of(options)

        def work(folder: Any) -> dict[str, Any]:
            return {"subject": options.subject(), **run_external(options, folder)}

        result = study(
            ctx,
            run,
            "external",
            options.config(),
            work,
            lambda found: external_summary(found, commands),
            run_officially,
        )
    raise typer.Exit(result["exit_status"])


def _asked(benchmarks: list[str] | None, checkpoint: Path | None, replaced: set[str]) -> tuple[str, ...]:
    """The benchmarks that are run on the coder: those named, or all but those that a command of one's own stands for."""
    from trialplate.sae.programs.official import BENCHMARKS

    if checkpoint is None:
        return ()
    named = sae.entries("--benchmarks", benchmarks)
    return tuple(named) or tuple(name for name in BENCHMARKS if name.partition("_")[0] not in replaced)
