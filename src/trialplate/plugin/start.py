"""The start of a reported run: folder, placeholder, journal; then the checks that end in a usage error; then the plugin that reports.

The order matters. The placeholder is on the disk before anything can go wrong, so that `reports/latest` never shows an older green run as
if it were this one.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trialplate.gates.bind import bind
from trialplate.gates.policy import PolicyError, load_policies
from trialplate.plugin import hookspec, keys, measured, options, provenance, resume, subjects
from trialplate.plugin.run import RunState, now, placeholder
from trialplate.report.files import point_latest
from trialplate.report.journal import JournalError
from trialplate.report.model import Code, Environment, Run, Setting
from trialplate.report.store import ReportError, write_report


class About(NamedTuple):
    """What is known of a run before it runs."""

    run: Run
    code: Code
    environment: Environment
    config: dict[str, Setting]


def start(config: pytest.Config) -> None:
    """Start the reporting side of a run, or the recording side in an xdist worker. Raises UsageError."""
    if options.is_worker(config):
        from trialplate.plugin.worker import WorkerPlugin

        if "trialplate_done" in config.workerinput:  # type: ignore[attr-defined]
            config.pluginmanager.register(WorkerPlugin(config), "trialplate-worker")
        return
    from trialplate.plugin.reporting import ReportPlugin

    earlier, places = resume.earlier(config), measured.folders(config)  # before `latest` moves
    folder, attempt = _folder(config, earlier)
    about = _describe(config, folder, attempt, earlier)
    run = _open(folder, attempt, about, judging=not options.value(config, "no_judge"))
    config.stash[keys.RUN] = run
    try:
        done = resume.done(config, earlier) if earlier else {}
        taken = measured.take(config, places)
        run.policies, run.bindings = _bindings(config, taken)
        config.stash[keys.BINDINGS] = run.bindings
        measured.carry(run, taken)
        for text in subjects.stand_ins(config):
            run.note("error", text)
    except (pytest.UsageError, PolicyError, ReportError) as e:
        write_report(folder, placeholder(*about, errors=[f"usage error: {e}"]))
        raise pytest.UsageError(str(e)) from e
    config.pluginmanager.register(ReportPlugin(config, run, done, places), "trialplate-report")


def _bindings(config: pytest.Config, taken: list[Any]) -> tuple[list[Any], list[Any]]:
    """(policies, bindings): policies named on the command line judge every subject, those of the ini folders go by their globs."""
    named = options.value(config, "policy")
    paths = [Path(config.invocation_params.dir, p) for p in named] or [
        Path(p) for p in config.getini(f"{options.PREFIX}_policies")
    ]
    policies = load_policies([p for p in paths if named or p.exists()], hookspec.extra_metrics(config))
    if taken:
        pairs = [(s.key, s.label) for report, _ in taken for s in report.subjects]
        pairs += [("", "") for report, _ in taken if any(m.subject == "" for m in report.measurements)]
    else:
        pairs = [(s.key, s.label) for s in subjects.subjects(config)] or [("", "")]
    return policies, bind(policies, pairs, explicit=bool(named))


def all_bindings(config: pytest.Config) -> list[Any]:
    """Gates bound to the subjects of this run, where no report is written (a dry collection). Raises UsageError."""
    try:
        return _bindings(config, measured.take(config, measured.folders(config)))[1]
    except (PolicyError, ReportError) as e:
        raise pytest.UsageError(str(e)) from e


def _folder(config: pytest.Config, earlier: Any) -> tuple[Path, int]:
    if earlier is not None:
        return earlier.folder, earlier.report.run.attempts + 1
    given = options.value(config, "report")
    if given:
        folder = Path(config.invocation_params.dir, given)
    else:
        base = config.inipath.parent if config.inipath else config.rootpath
        folder = base / "reports" / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError as e:
        raise pytest.UsageError(
            f"--report {folder}: exists already, and a report is never overwritten. Give another folder, or continue "
            f"that run with --resume {given or folder}"
        ) from e
    except OSError as e:
        raise pytest.UsageError(f"--report {folder}: cannot be made: {e.strerror}; nothing was run") from e
    return folder, 1


def _describe(config: pytest.Config, folder: Path, attempt: int, earlier: Any) -> About:
    run = Run(
        id=earlier.report.run.id if earlier else f"{folder.name}-{secrets.token_hex(4)}",
        state="started",
        started_at=now(),
        argv=[provenance.private(str(a)) for a in config.invocation_params.args],
        attempts=attempt,
        seed=options.value(config, "seed"),
        workers=config.getoption("numprocesses", None) or 0,
    )
    return About(
        run,
        provenance.code(config),
        provenance.environment(options.value(config, "threads")),
        provenance.settings(config),
    )


def _open(folder: Path, attempt: int, about: About, *, judging: bool) -> RunState:
    try:
        write_report(folder, placeholder(*about, errors=[]))
        point_latest(folder)
        run = RunState(folder, attempt, judging=judging)
        run.start(*about)
    except JournalError as e:
        raise pytest.UsageError(str(e)) from e
    except OSError as e:
        where = os.path.relpath(e.filename, folder.parent) if e.filename else folder
        raise pytest.UsageError(f"--report {folder}: cannot be written ({where}: {e.strerror}); nothing was run") from e
    return run
