"""From test reports to the outcome of a case. A case passes when setup, call and teardown passed and nothing was skipped or expected to fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from trialplate.report.model import Outcome, Verdict
from trialplate.report.plain import printable

_RANK: dict[Outcome, int] = {
    "passed": 0,
    "skipped": 1,
    "xfailed": 1,
    "xpassed": 1,
    "failed": 2,
    "error": 3,
    "crashed": 4,
}


class CaseTally:
    """The phases of one case, as they come in."""

    def __init__(self) -> None:
        self.outcome: Outcome = "passed"
        self.reason = ""
        self.duration = 0.0
        self.payload: dict[str, Any] | None = None
        self.called = False
        self.reruns = 0

    def add(self, report: Any) -> bool:
        """Take one report; True when it was the case's last one."""
        # taken off the report: pytest keeps every report to its end, and samples can be many
        payload = report.__dict__.pop("trialplate", None)
        if report.outcome == "rerun":
            # the attempt does not count; what it recorded is replaced by the next one's
            reruns = self.reruns + 1
            self.__init__()  # type: ignore[misc]
            self.reruns = reruns
            return False
        outcome = _outcome(report)
        if _RANK[outcome] > _RANK[self.outcome]:
            self.outcome, self.reason = outcome, _reason(report)
        if hasattr(report, "context"):  # a subtest: its failure counts, what it repeats does not
            return False
        self.duration += report.duration
        if report.when == "call":
            self.called, self.payload = True, payload
        if report.when == "teardown" and not self.called and self.outcome == "passed":
            self.outcome, self.reason = "error", "it never ran"
        return report.when in ("teardown", "???")


def _outcome(report: Any) -> Outcome:
    expected = hasattr(report, "wasxfail")
    if report.when == "???":  # xdist's word for the case that a worker died in
        return "crashed"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    if report.skipped:
        return "xfailed" if expected else "skipped"
    return "xpassed" if expected and report.when == "call" else "passed"


def _reason(report: Any) -> str:
    if isinstance(report.longrepr, tuple):
        return printable(report.longrepr[2])[:500]
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or "")
    lines = printable(text).strip().splitlines()
    # a failed assertion is what a reader expects of a failed case; other exceptions are named
    return lines[0].removeprefix("AssertionError: ").removeprefix("Failed: ")[:500] if lines else ""


def no_policy(subject: str) -> str:
    """Why a gate case of a subject that no policy is bound to fails."""
    return f"no policy judges {subject or 'this run'}; add its name to `models` of a policy, give --policy FILE, or measure only with --no-judge"


def gate_reports(nodeid: str, verdict: Verdict | None, subject: str) -> Iterator[pytest.TestReport]:
    """The reports that a gate case would have made in a process of its own: one without a verdict fails in its setup."""
    path, _, name = nodeid.partition("::")
    phases: dict[Literal["setup", "call", "teardown"], str] = {"setup": "", "call": "", "teardown": ""}
    if verdict is None:
        phases = {"setup": no_policy(subject), "teardown": ""}
    elif not verdict.acceptable:
        phases["call"] = verdict.explain()
    for when, text in phases.items():
        yield pytest.TestReport(
            nodeid=nodeid,
            location=(path, None, name),
            keywords={name: 1, "gate": 1},
            outcome="failed" if text else "passed",
            longrepr=text or None,
            when=when,
        )
