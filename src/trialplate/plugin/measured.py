"""`--measured DIR`: measurements of earlier runs, judged now. What they measured may be gone or changed by now; then they are stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trialplate.plugin import cases, options
from trialplate.plugin.run import RunState
from trialplate.report.journal import Carried
from trialplate.report.model import Report
from trialplate.report.store import load_run


def folders(config: pytest.Config) -> list[Path]:
    """The folders that were named, with links followed: `reports/latest` is the run before this one, not this one."""
    if options.is_worker(config):  # the link has moved by the time a worker looks
        return [Path(p) for p in config.workerinput["trialplate_measured"]]  # type: ignore[attr-defined]
    return [Path(config.invocation_params.dir, given).resolve() for given in options.value(config, "measured")]


def take(config: pytest.Config, places: list[Path]) -> list[tuple[Report, dict[str, str]]]:
    """The earlier reports with, for each, the cases whose eval has changed since {case id: reason}. Raises ReportError."""
    found = []
    for given in places:
        report = load_run(given)
        if not report.measurements:
            raise pytest.UsageError(
                f"--measured {given}: holds no measurement; give the folder of a run that measured something"
            )
        found.append((report, _stale(config, report)))
    return found


def carry(run: RunState, taken: list[tuple[Report, dict[str, str]]]) -> None:
    """Put earlier cases and measurements into this run's journal. A case that two runs measured is an error of the report."""
    seen: set[str] = set()
    for report, stale in taken:
        subjects = {s.key: s for s in report.subjects}
        by_case: dict[str, list[Any]] = {}
        for m in report.measurements:
            by_case.setdefault(m.case, []).append(m)
        for case in (c for c in report.cases if not c.gate):
            if case.id in seen:
                run.note("error", f"case {case.id} is in two of the --measured runs; give one of them")
                continue
            seen.add(case.id)
            run.write(Carried(attempt=run.attempt, case=case, measurements=by_case.get(case.id, []), data=[],
                              subject=subjects.get(case.subject)))  # fmt: skip
        run.stale |= stale
        if report.run.state != "finished":
            run.note("error", f"the --measured run {report.run.id} did not finish")


def _stale(config: pytest.Config, report: Report) -> dict[str, str]:
    reasons: dict[str, str] = {}
    changed = _changed_subjects(config, report)
    for case in report.cases:
        if case.subject in changed:
            reasons[case.id] = changed[case.subject]
        elif case.source and (now := _source(config, case.id)) and now != case.source:
            reasons[case.id] = f"{case.id.partition('::')[0]} has changed since it measured this"
    return reasons


def _source(config: pytest.Config, case: str) -> str:
    path = case.partition("::")[0]
    for folder in options.evals_folders(config):
        if (folder / path).is_file():
            return cases.source_digest(str(folder / path), config)
    return ""


def _changed_subjects(config: pytest.Config, report: Report) -> dict[str, str]:
    """Subjects that can be found here and have other weights by now; one that cannot be found is judged as it was measured."""
    from trialplate.models.resolve import ModelNotFound
    from trialplate.models.spec import ModelSpec
    from trialplate.plugin.loading import weights_digest_of

    changed = {}
    for s in report.subjects:
        spec = ModelSpec(name=s.label.split("@")[0].split("+")[0], revision=s.revision, device=s.device, dtype=s.dtype)
        if s.adapter_digest or spec.label != s.label:
            continue
        try:
            now = weights_digest_of(spec, online=False)
        except ModelNotFound:
            continue
        if s.weights_digest and now != s.weights_digest:
            changed[s.key] = (
                f"{s.label} has other weights by now ({now[:12]}) than were measured ({s.weights_digest[:12]})"
            )
    return changed
