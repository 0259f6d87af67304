"""pass_all: computed from what a report holds, never set. Every way not to pass is a sentence.

`reasons` is the whole definition: a report passes exactly when the list is empty. Writers call it, and readers call it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from trialplate.report.model import Case, Measurement, NotCollected, Run, Subject, Verdict

_STATUS = {
    2: "pytest was interrupted (status 2)",
    3: "pytest ended with an internal error (status 3)",
    4: "pytest ended with a usage error (status 4)",
    5: "no case was selected (status 5)",
}


def reasons(
    run: Run,
    subjects: Iterable[Subject],
    cases: Iterable[Case],
    measurements: Iterable[Measurement],
    verdicts: Iterable[Verdict],
    errors: Iterable[str],
    not_collected: Iterable[NotCollected] = (),
) -> list[str]:
    """Why this run does not pass, in the order a reader wants to know it; empty exactly when it passes."""
    cases, verdicts, measurements = list(cases), list(verdicts), list(measurements)
    found = [*run_reasons(run), *(f"error: {e}" for e in errors)]
    if not measurements:
        found.append("nothing was measured" + _because(run.filters, not_collected))
    found += _case_reasons(cases, verdicts)
    found += _gaps(cases, measurements)
    found += _verdict_reasons(run, subjects, measurements, verdicts)
    if not found and run.exit_status == 1:
        found.append("pytest ended with failures (status 1) that no case accounts for")
    return found


def run_reasons(run: Run) -> list[str]:
    """Why the run itself, whatever it measured, does not stand."""
    if run.state == "started":
        return ["the run did not finish"]
    if run.state == "interrupted":
        return ["the run was interrupted before its end"]
    status = run.exit_status
    if status in (0, 1):
        return []
    if status is None:
        return ["the run has no exit status"]
    return [_STATUS.get(status, f"pytest ended with status {status}")]


def _because(filters: list[str], not_collected: Iterable[NotCollected]) -> str:
    parts = [f"selected by {', '.join(filters)}"] if filters else []
    whys = sorted({n.reason for n in not_collected})
    parts += [f"not collected: {why}" for why in whys[:3]]
    return f" ({'; '.join(parts)})" if parts else ""


def _case_reasons(cases: list[Case], verdicts: list[Verdict]) -> list[str]:
    judged_red = any(not v.acceptable for v in verdicts)
    return [
        f"case {c.id}: {c.outcome}" + (f": {c.reason}" if c.reason else "")
        for c in cases
        # a failed gate case repeats its verdict, which has its own line; alone it would be a gate that judged nothing
        if c.outcome != "passed" and not (c.gate and judged_red)
    ]


def _gaps(cases: list[Case], measurements: list[Measurement]) -> list[str]:
    """Cases that recorded more, or less, than is there: a measurement was lost, or put in."""
    there: dict[str, int] = {}
    for m in measurements:
        there[m.case] = there.get(m.case, 0) + 1
    said = {c.id: c.measured for c in cases}
    return [
        f"case {case} recorded {said.get(case, 0)} measurements, {there.get(case, 0)} are here"
        for case in sorted(said | there)
        if said.get(case, 0) != there.get(case, 0)
    ]


def _verdict_reasons(
    run: Run, subjects: Iterable[Subject], measurements: list[Measurement], verdicts: list[Verdict]
) -> list[str]:
    if not run.judged:
        return ["nothing was judged"] if measurements else []
    keys = sorted({*run.subjects} | {s.key for s in subjects} | {m.subject for m in measurements})
    gated = {v.subject for v in verdicts if v.required}
    found = [f"subject {key or '(no model)'}: no required gate judges it" for key in keys if key not in gated]
    found += [gate_reason(v) for v in verdicts if not v.acceptable]
    return found


def gate_reason(v: Verdict) -> str:
    """A verdict that is a reason for red, as a sentence."""
    return f"gate {v.gate} on {v.subject or '(no model)'}: {v.status}: {v.reason}"
