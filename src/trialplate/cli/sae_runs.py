"""How a command about coders ends: a result file under its role with summary, manifest and log, a short table, and where it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        folder.summary(with_origin(summary(result), result["subject"], folder.command))
        if run.plot:
            draw_result(folder)
    show(headline(result))
    typer.echo(f"written: {folder.final}")
    return result


def with_origin(markdown: str, subject: Mapping[str, Any], command: Sequence[str]) -> str:
    """A summary with a line below its title: model, sites, coders by digest and the command, as far as they are known. Many coders are counted; their digests
    are in the result."""
    from shlex import join

    site_in, site_out = (str(subject.get(name) or "") for name in ("site_in", "site_out"))
    sites = " to ".join(dict.fromkeys(site for site in (site_in, site_out) if site)) or ", ".join(
        subject.get("sites", ())
    )
    coders = _digests(subject.get("coder") or subject.get("coders") or ())
    known = {
        "model": subject.get("model"),
        "site": sites,
        "coder": coders[0][:12] if len(coders) == 1 else "",
        "coders, by digest in the result:": len(coders) if len(coders) > 1 else "",
        "command": f"`{join(command)}`",
    }
    title, _, rest = markdown.partition("\n")
    line = "; ".join(f"{name} {value}" for name, value in known.items() if value)
    return f"{title}\n\n{line}.\n{rest}"


def _digests(found: Any) -> list[str]:
    """The digests in a subject's entry of coders, which may be nested by condition and seed."""
    if isinstance(found, Mapping):
        return [digest for one in found.values() for digest in _digests(one)]
    return [found] if isinstance(found, str) else []


def with_rows(opened: Opened, result: dict[str, Any]) -> dict[str, Any]:
    """The result with what is known of the model that its rows are of."""
    weights = "" if opened.model is None else opened.model.weights_digest
    found = {**result["subject"], "model": opened.model_name, "weights": weights}
    if "sites" not in found:  # rows of several sites have a subject each
        found["site_in"] = found.get("site_in") or opened.site_in
        found["site_out"] = found.get("site_out") or opened.site_out
    result["subject"] = found
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
