"""`--resume DIR`: what an earlier run of the same command left undone. A case counts as done when it passed, its file is unchanged and its
model has the same weights; everything else runs again."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trialplate.plugin import cases, hookspec, options, provenance
from trialplate.report.journal import JOURNAL
from trialplate.report.model import Report
from trialplate.report.store import ReportError, load_run

# options that decide which cases there are and what they measure; the others may differ between the attempts
SAME = (
    "model", "revision", "device", "dtype", "adapter", "task", "limit", "seed", "data", "golden", "threads", "policy", "selection", "paths",
)  # fmt: skip


class Earlier(NamedTuple):
    """The run that is continued."""

    folder: Path
    report: Report


def earlier(config: pytest.Config) -> Earlier | None:
    """The run to continue, or None. Raises UsageError when it cannot be continued with these options."""
    given = options.value(config, "resume")
    if not given:
        return None
    if options.value(config, "report"):
        raise pytest.UsageError("--resume continues a run in its own folder; leave --report out")
    folder = Path(config.invocation_params.dir, given).resolve()
    if not (folder / JOURNAL).is_file():
        raise pytest.UsageError(
            f"--resume {given}: holds no {JOURNAL}; give the folder of a run, such as reports/latest"
        )
    try:
        report = load_run(folder)
    except (ReportError, OSError) as e:
        raise pytest.UsageError(f"--resume {given}: {e}") from e
    _refuse_other_options(config, report, given)
    return Earlier(folder, report)


def done(config: pytest.Config, before: Earlier) -> dict[str, str]:
    """Cases that need not run again, {case id: digest of its file}. Raises UsageError when a model is no longer the one that was measured."""
    digests = {s.key: s.weights_digest for s in before.report.subjects}
    passed = [c for c in before.report.cases if c.outcome == "passed" and not c.gate]
    for spec in _specs(config):
        known = digests.get(spec.key)
        if known and any(c.subject == spec.key for c in passed):
            _refuse_other_weights(config, spec, known)
    return {c.id: c.source for c in passed}


def unchanged(case: str, nodeid: str, finished: dict[str, str], config: pytest.Config) -> bool:
    """Whether a finished case is still the same case."""
    return case in finished and finished[case] == cases.source_digest(nodeid, config)


def _specs(config: pytest.Config) -> list[Any]:
    from trialplate.plugin.subjects import subjects

    return subjects(config)


def _refuse_other_weights(config: pytest.Config, spec: Any, known: str) -> None:
    from trialplate.plugin.loading import weights_digest_of

    if hookspec.has_own_loader(config):
        return  # a model that only its factory knows is compared when it is loaded: the fold refuses two identities under one key
    now = weights_digest_of(spec, online=options.value(config, "online"))
    if now != known:
        raise pytest.UsageError(
            f"--resume: {spec.label} has other weights now ({now[:12]}) than when it was measured ({known[:12]}); "
            f"start a new run"
        )


def _refuse_other_options(config: pytest.Config, report: Report, given: str) -> None:
    now = provenance.settings(config)
    differing = [
        f"{name} was {report.config[name].value!r}, is {now[name].value!r}"
        for name in SAME
        if name in report.config and report.config[name].value != now[name].value
    ]
    if differing:
        command = "pytest " + " ".join(report.run.argv)
        raise pytest.UsageError(
            f"--resume {given}: the run was started with other options ({'; '.join(differing)}). Give the same ones: "
            f"{command} --resume {given}"
        )


def nearest(name: str, known: list[str]) -> str:
    """A hint for a name that is not known."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
