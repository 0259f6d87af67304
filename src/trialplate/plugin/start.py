"""The start of a reported run: folder, placeholder, journal; then the checks that end in a usage error; then the plugin that reports.

The order matters. The placeholder is on the disk before anything can go wrong, so that `reports/latest` never shows an older green run as
if it were this one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trialplate.gates.bind import bind
from trialplate.gates.policy import PolicyError, load_policies
from trialplate.plugin import coders, hookspec, keys, measured, options, provenance, resume, subjects
from trialplate.plugin.run import RunState, now, placeholder
from trialplate.report.files import point_latest
from trialplate.report.journal import JournalError, trim_torn_tail
from trialplate.report.model import Code, Environment, Report, Run, Setting
from trialplate.report.plain import printable
from trialplate.report.store import ReportError, write_report


class About(NamedTuple):
    """What is known of a run before it runs."""

    run: Run
    code: Code
    environment: Environment
    config: dict[str, Setting]


def start(config: pytest.Config) -> None:
    """Start the reporting side of a run. Raises UsageError."""
    from trialplate.models.errors import ModelError
    from trialplate.plugin.reporting import ReportPlugin

    earlier, places = resume.earlier(config), measured.folders(config)  # before `latest` moves
    done = _done(
        config, earlier
    )  # before anything of the earlier run is touched: a refused continuation leaves it as it was
    folder = earlier.folder if earlier else _new_folder(config)
    attempt = earlier.report.run.attempts + 1 if earlier else 1
    about = _describe(config, folder, attempt, earlier)
    if not earlier:
        _make(folder)
    run = _open(folder, attempt, about, judging=not options.value(config, "no_judge"))
    config.stash[keys.RUN] = run
    try:
        options.check(config)
        coders.check(config)
        taken = measured.take(config, places)
        run.policies, run.bindings = _bindings(config, taken)
        config.stash[keys.BINDINGS] = run.bindings
        measured.carry(run, taken)
        for text in subjects.stand_ins(config):
            run.note("error", text)
        if options.value(config, "golden_update"):
            run.note("error", "golden values were written, not compared with (--golden-update); run again without it")
    except (pytest.UsageError, PolicyError, ReportError, ModelError, ValueError) as e:  # CheckpointError: a ValueError
        _keep(run, f"usage error: {printable(e)}")
        raise pytest.UsageError(str(e)) from e
    known = {c.id for c in earlier.report.cases} if earlier else set()
    config.pluginmanager.register(ReportPlugin(config, run, done, known, places), "trialplate-report")


def _done(config: pytest.Config, earlier: Any) -> dict[str, str]:
    from trialplate.models.errors import ModelError

    if earlier is None:
        return {}
    try:
        return resume.done(config, earlier)
    except (ModelError, ValueError) as e:
        raise pytest.UsageError(str(e)) from e


def _keep(run: RunState, error: str) -> None:
    """Let what stands name the error, if it can still be written; the error itself reaches the terminal either way."""
    run.note("error", error)
    with contextlib.suppress(OSError):
        write_report(run.folder, run.fold())


def _bindings(config: pytest.Config, taken: list[Any]) -> tuple[list[Any], list[Any]]:
    """(policies, bindings): policies named on the command line judge every subject, those of the ini folders go by their globs."""
    named = options.value(config, "policy")
    paths = [Path(config.invocation_params.dir, p) for p in named] or [
        Path(p) for p in config.getini(f"{options.PREFIX}_policies")
    ]
    there = [p for p in paths if named or p.is_file() or any(p.glob("*.toml"))]
    policies = load_policies(there, hookspec.extra_metrics(config))
    pairs = [(s.key, s.label) for s in subjects.subjects(config)]
    pairs += [(key, key.partition("|")[0]) for report, _ in taken for key in _measured_keys(report)]
    config.stash[keys.MEASURED] = {key for report, _ in taken for key in _measured_keys(report)}
    return policies, bind(policies, pairs or [("", "")], explicit=bool(named))


def _measured_keys(report: Report) -> set[str]:
    return {*report.run.subjects} | {m.subject for m in report.measurements}


def all_bindings(config: pytest.Config) -> list[Any]:
    """Gates bound to the subjects of this run, where no report is written (a dry collection). Raises UsageError."""
    try:
        return _bindings(config, measured.take(config, measured.folders(config)))[1]
    except (PolicyError, ReportError) as e:
        raise pytest.UsageError(str(e)) from e


def _new_folder(config: pytest.Config) -> Path:
    given = options.value(config, "report")
    if not given:
        base = config.inipath.parent if config.inipath else config.rootpath
        return base / "reports" / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    folder = Path(config.invocation_params.dir, given)
    if folder.exists():
        raise pytest.UsageError(
            f"--report {given}: exists already, and a report is never overwritten. Give another folder, or continue "
            f"that run with --resume {given}"
        )
    return folder


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except OSError as e:
        raise pytest.UsageError(f"--report {folder}: cannot be made: {e.strerror}; nothing was run") from e


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
    """Lock the folder first: a run that is still being written is neither trimmed nor given another placeholder."""
    run = None
    try:
        run = RunState(folder, attempt, judging=judging)
        trim_torn_tail(folder)
        write_report(folder, placeholder(*about))
        point_latest(folder)
        run.start(*about)
    except JournalError as e:
        raise pytest.UsageError(str(e)) from e
    except OSError as e:
        if run is not None:
            run.close()
        why = f"{os.path.relpath(e.filename, folder.parent)}: {e.strerror}" if e.filename else e.strerror or str(e)
        raise pytest.UsageError(f"--report {folder}: cannot be written ({why}); nothing was run") from e
    return run
