"""What a person sees at the end: the measurements by subject with their nulls, the verdicts, one line on pass_all, and where the report is."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from trialplate.plugin.run import RunState
from trialplate.report.conclude import gate_reason
from trialplate.report.model import Measurement, Report, Status, Verdict

MOST_REASONS = 12
MOST_ALIKE = 4
MOST_ROWS = 400
_COLOURS = {
    "PASS": "green",
    "FAIL": "red",
    "INVALID": "red",
    "STALE": "red",
    "MISSING": "yellow",
    "THIN": "yellow",
    "UNDECIDED": "yellow",
}


def header(config: pytest.Config, run: RunState) -> list[str]:
    """Two lines before the first case."""
    from trialplate.plugin.subjects import subjects

    keys = [s.key for s in subjects(config)]
    return [f"trialplate: {', '.join(keys) or 'no model'}", f"report: {shown_path(run)}"]


def write_summary(reporter: Any, run: RunState) -> None:
    """Print the summary through pytest's terminal reporter."""
    report = run.report or run.fold()
    tw = reporter
    for title, text in (
        ("measurements", measurement_table(report, _width(reporter), reporter.hasmarkup)),
        ("verdicts", verdict_table(report, _width(reporter), reporter.hasmarkup)),
    ):
        if text:
            tw.write_sep("=", title)
            tw.write_line(text)
    tw.write_sep("=", "trialplate")
    for line, colour in conclusion(report, run):
        tw.write_line(line, **({colour: True} if colour else {}))


def conclusion(report: Report, run: RunState) -> list[tuple[str, str]]:
    """The last lines, as (text, colour)."""
    lines = [(f"  not collected: {reason} ({n} cases)", "") for reason, n in _left_out(report).items()]
    lines += [(f"  degraded: {d}", "yellow") for d in report.degraded]
    reasons = short_reasons(report)
    lines += [(f"  - {r}", "red") for r in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        lines.append((f"  - and {len(reasons) - MOST_REASONS} more, in the report", "red"))
    broken = [run.broken] if run.broken and run.broken not in report.errors else []
    lines += [(f"  - {text}", "red") for text in broken]
    lines.append(summary_line(report, extra=len(broken)))
    lines.append((f"report: {shown_path(run)}", ""))
    return lines


def summary_line(report: Report, extra: int = 0) -> tuple[str, str]:
    """`pass_all: yes` or `pass_all: no — 3 reasons`."""
    n = len(report.reasons) + extra
    if report.pass_all and not extra:
        required = sum(v.required for v in report.gates)
        return (
            f"pass_all: yes — {len(report.cases)} cases, {len(report.measurements)} measurements, {required} gates",
            "green",
        )
    return f"pass_all: no — {n} reason{'s' if n != 1 else ''}", "red"


def shown_path(run: RunState) -> str:
    """The report file, relative to where the user stands when that is shorter."""
    path = run.folder / "report.json"
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def measurement_table(report: Report, width: int, colour: bool) -> str:
    """Measurements grouped by subject; a repeated metric of one case shows its parameters."""
    if not report.measurements:
        return ""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold" if colour else "")
    for name, justify in (
        ("case", "left"),
        ("metric", "left"),
        ("value", "right"),
        ("95 % interval", "right"),
        ("null", "right"),
        ("n", "right"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    subject = case = None
    worth = _worth_showing(report.measurements)[:MOST_ROWS]
    for m in worth:
        if m.subject != subject:
            table.add_row(
                f"[bold]{_plain(m.subject or '(no model)')}[/bold]" if colour else _plain(m.subject or "(no model)")
            )
        same = m.case == case and m.subject == subject
        table.add_row(
            "" if same else "  " + _plain(_short(m)),
            _plain(_named(m)),
            _number(m.value),
            _interval(m),
            _null(m),
            str(m.n),
        )
        subject, case = m.subject, m.case
    if len(worth) < len(report.measurements):
        table.add_row(f"… and {len(report.measurements) - len(worth)} more, in metrics.csv")
    return _render(table, width, colour)


def _worth_showing(measurements: list[Measurement]) -> list[Measurement]:
    """All, but of one metric of one case the first few: a score a head fills pages. Named values come before numbered ones."""
    ordered = sorted(
        measurements, key=lambda m: (m.subject, m.case, m.metric, not any(v == "best" for v in m.params.values()))
    )
    shown: dict[tuple[str, str, str], int] = {}
    kept = []
    for m in ordered:
        shown[m.subject, m.case, m.metric] = rank = shown.get((m.subject, m.case, m.metric), 0) + 1
        if rank <= MOST_ALIKE:
            kept.append(m)
    return kept


def verdict_table(report: Report, width: int, colour: bool) -> str:
    """By subject: what did not pass first, each with its reason; gates that are MISSING for one cause share a line; then what passed."""
    if not report.gates:
        return ""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold" if colour else "", show_edge=False)
    for name in ("verdict", "gate", "metric and bound", "value", "n", "reason"):
        wraps = name in ("gate", "reason")
        table.add_column(
            name, justify="right" if name in ("value", "n") else "left", no_wrap=not wraps, overflow="fold"
        )
    for subject in sorted({v.subject for v in report.gates}):
        table.add_row(
            "", f"[bold]{_plain(subject or '(no model)')}[/bold]" if colour else _plain(subject or "(no model)")
        )
        verdicts = [v for v in report.gates if v.subject == subject]
        for row in _verdict_rows(verdicts, colour):
            table.add_row(*row)
    return _render(table, width, colour)


def _verdict_rows(verdicts: list[Verdict], colour: bool) -> Iterator[list[str]]:
    shared = {id(v) for missing in _by_cause(verdicts).values() for v in missing}
    alone = sorted((v for v in verdicts if id(v) not in shared), key=lambda v: v.gate)
    yield from (_verdict_row(v, colour) for v in alone if not v.passed)
    for cause, missing in _by_cause(verdicts).items():
        names = ", ".join(v.gate for v in missing)
        yield [_status("MISSING", colour), _plain(names), f"{len(missing)} gates", "", "", _plain(cause)]
    yield from (_verdict_row(v, colour) for v in alone if v.passed)


def _by_cause(verdicts: list[Verdict]) -> dict[str, list[Verdict]]:
    """MISSING gates that share a cause: a selection leaves out dozens at once, and one line says it."""
    causes: dict[str, list[Verdict]] = {}
    for v in sorted(verdicts, key=lambda v: v.gate):
        if v.status == "MISSING" and _cause(v) != v.reason:
            causes.setdefault(_cause(v), []).append(v)
    return {cause: missing for cause, missing in causes.items() if len(missing) > 1}


def _cause(v: Verdict) -> str:
    """The part of a reason that says why nothing was there, without what was not there."""
    return v.reason.partition("; ")[2] or v.reason


def _status(status: Status, colour: bool) -> str:
    return f"[{_COLOURS[status]}]{status}[/]" if colour else status


def _verdict_row(v: Verdict, colour: bool) -> list[str]:
    name = _plain(v.gate) + ("" if v.required else " (not required)")
    value = "" if v.value is None else _number(v.value)
    return [
        _status(v.status, colour),
        name,
        _plain(f"{v.metric}: {v.bound}"),
        value,
        "" if v.n is None else str(v.n),
        _plain(v.reason),
    ]


def short_reasons(report: Report) -> list[str]:
    """The reasons for red as a person reads them: gates that are MISSING for one cause share a line. The report has them one by one."""
    told: list[str] = []
    shared: set[str] = set()
    for subject in sorted({v.subject for v in report.gates}):
        counted = [v for v in report.gates if v.subject == subject and not v.acceptable]
        for cause, missing in _by_cause(counted).items():
            shared |= {gate_reason(v) for v in missing}
            told.append(f"{len(missing)} gates on {subject or '(no model)'} are MISSING: {cause}")
    return [r for r in report.reasons if r not in shared] + told


def _left_out(report: Report) -> dict[str, int]:
    counts: dict[str, int] = {}
    for n in report.not_collected:
        counts[n.reason] = counts.get(n.reason, 0) + 1
    return counts


def _short(m: Measurement) -> str:
    """The case without its file and its subject: `test_ioi[ABBA]`."""
    return (
        m.case.partition("::")[2]
        .replace(f"[{m.subject}]", "")
        .replace(f"{m.subject}-", "")
        .replace(f"-{m.subject}", "")
    )


def _named(m: Measurement) -> str:
    shown = m.case.rpartition("[")[2].rstrip("]").split("-")
    params = [f"{k}={v}" for k, v in m.params.items() if str(v) not in shown]
    return m.metric + (f" ({', '.join(params)})" if params else "")


def _number(x: float) -> str:
    return f"{x:.0f}" if float(x).is_integer() and abs(x) < 1e6 else f"{x:.4g}"


def _interval(m: Measurement) -> str:
    return "" if m.ci is None else f"{_number(m.ci[0])} .. {_number(m.ci[1])}"


def _null(m: Measurement) -> str:
    return "" if m.null is None else f"{_number(m.null.value)} ({m.null.kind})"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _width(reporter: Any) -> int:
    # without a terminal there is no width to keep to: lines that wrap cannot be searched
    return shutil.get_terminal_size((100, 24)).columns if reporter.isatty else 200


def _render(table: Any, width: int, colour: bool) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False).print(
        table
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
