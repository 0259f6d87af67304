"""`--measured DIR`: measurements of earlier runs, judged now. What they measured may be gone or changed by now; then they are stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from trialplate.plugin import cases, options
from trialplate.plugin.run import RunState
from trialplate.report.conclude import run_reasons
from trialplate.report.journal import Carried
from trialplate.report.model import Case, Measurement, Report
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
    """Put earlier cases and measurements into this run's journal, and whatever kept the earlier run from passing that no gate would see."""
    seen: set[str] = set()
    for report, stale in taken:
        for text in [*run_reasons(report.run), *report.errors]:
            run.note("error", f"the --measured run {report.run.id}: {text}")
        for text in report.degraded:
            run.note("degraded", f"the --measured run {report.run.id}: {text}")
        left_out = [{"case": n.case, "subject": n.subject, "reason": n.reason} for n in report.not_collected]
        run.select([], report.run.filters, left_out, report.run.subjects)
        data = (
            report.data
        )  # a report knows the data sets of a run, not those of a case: the first case carries them all
        for case, measurements in _by_case(report):
            if case.id in seen:
                run.note("error", f"case {case.id} is in two of the --measured runs; give one of them")
                continue
            seen.add(case.id)
            subject = next((s for s in report.subjects if s.key == case.subject), None)
            run.write(Carried(attempt=run.attempt, case=case, measurements=measurements, data=data, subject=subject))
            data = []
        run.stale |= stale


def _by_case(report: Report) -> list[tuple[Case, list[Measurement]]]:
    found: dict[str, list[Measurement]] = {}
    for m in report.measurements:
        found.setdefault(m.case, []).append(m)
    return [(c, found.get(c.id, [])) for c in report.cases if not c.gate]


def _stale(config: pytest.Config, report: Report) -> dict[str, str]:
    reasons: dict[str, str] = {}
    changed = _changed_subjects(config, report)
    for case in report.cases:
        if case.subject in changed:
            reasons[case.id] = changed[case.subject]
        elif case.source and (now := _source(config, case.id)) != case.source:
            reasons[case.id] = (
                f"{case.id.partition('::')[0]} {'has changed' if now else 'is gone'} since it measured this"
            )
    return reasons


def _source(config: pytest.Config, case: str) -> str:
    """Digest of the file of a case as it is now; empty where there is none any more."""
    path = case.partition("::")[0]
    found = (f / path for f in (*options.evals_folders(config), config.rootpath) if (f / path).is_file())
    return cases.source_digest(str(next(found, "")), config)


def _changed_subjects(config: pytest.Config, report: Report) -> dict[str, str]:
    """Subjects that can be found here and have other weights by now; one that cannot be found is judged as it was measured."""
    from trialplate.models.errors import ModelError, ModelNotFound
    from trialplate.models.spec import ModelSpec
    from trialplate.plugin.loading import weights_digest_of

    changed = {}
    for s in report.subjects:
        if s.adapter_digest or not s.weights_digest or s.source == "memory":
            continue
        revision = s.revision if s.revision and s.label.endswith(f"@{s.revision}") else None
        name = s.label.removesuffix(f"@{revision}") if revision else s.label
        try:  # on the CPU: weights are the same everywhere
            now = weights_digest_of(ModelSpec(name=name, revision=revision, dtype=s.dtype), online=False)
        except (ModelError, ValueError) as e:  # CheckpointError is a ValueError
            if isinstance(e, ModelNotFound):
                continue
            changed[s.key] = f"{s.label} cannot be read by now: {e}"
            continue
        if now != s.weights_digest:
            changed[s.key] = (
                f"{s.label} has other weights by now ({now[:12]}) than were measured ({s.weights_digest[:12]})"
            )
    return changed
