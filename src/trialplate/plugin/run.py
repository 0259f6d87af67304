"""The state of a reported run, in the one process that writes: events go to the journal as they happen, everything else is folded from it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trialplate.gates.bind import Binding
from trialplate.gates.judge import Evidence, judge
from trialplate.report.fold import fold
from trialplate.report.journal import AnyEvent, Ended, Finished, Journal, Judged, Noted, Selected, Started, read_journal
from trialplate.report.model import Code, Environment, NotCollected, Policy, Report, Run, Setting, Verdict

if TYPE_CHECKING:
    from trialplate.gates.policy import Policy as GatePolicy


def now() -> str:
    """UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class RunState:
    """Journal, judgement and end of one run. A write that fails stops the journal, is kept in memory and becomes a reason for red."""

    def __init__(self, folder: Path, attempt: int, *, judging: bool) -> None:
        self.folder, self.attempt, self.judging = folder, attempt, judging
        self.policies: list[GatePolicy] = []
        self.bindings: list[Binding] = []
        self.stale: dict[str, str] = {}
        self.report: Report | None = None
        self.broken: str | None = None
        self.on_broken: Callable[[str], None] = lambda reason: None
        self._journal = Journal(folder)
        self._unwritten: list[AnyEvent] = []
        self._verdicts: list[Verdict] | None = None

    def start(self, run: Run, code: Code, environment: Environment, config: dict[str, Setting]) -> None:
        """Write the first event, durably. Raises OSError: a run that cannot be kept must not begin."""
        self._journal.append(Started(attempt=self.attempt, run=run, code=code, environment=environment, config=config))
        self._journal.checkpoint()

    def write(self, event: AnyEvent) -> None:
        """Append an event; after a failed write nothing more is written to the file, so that its torn line stays the last one."""
        if self.broken is None:
            try:
                self._journal.append(event)
                return
            except OSError as e:
                self.broken = f"the journal in {self.folder.name} could not be written: {e.strerror or e}"
                self._unwritten.append(Noted(attempt=self.attempt, kind="error", text=self.broken))
                self.on_broken(self.broken)
        self._unwritten.append(event)

    def select(self, cases: Iterable[str], filters: list[str], not_collected: list[dict[str, str]]) -> None:
        """Say which cases this run means to run."""
        left_out = [NotCollected(**n) for n in not_collected]
        self.write(Selected(attempt=self.attempt, cases=sorted(cases), filters=sorted(filters), not_collected=left_out))

    def finished(self, event: Finished) -> None:
        """One case is over."""
        self.write(event)

    def note(self, kind: str, text: str) -> None:
        """Keep an "error" (a reason for red) or a "degraded" (shown)."""
        self.write(Noted(attempt=self.attempt, kind=kind, text=text))

    def fold(self) -> Report:
        """The report of what has happened so far."""
        events, torn = read_journal(self.folder)
        return fold(events + self._unwritten, torn=torn and self.broken is None)

    def verdicts(self) -> list[Verdict]:
        """Judge once, from the fold; later calls give the same verdicts."""
        if self._verdicts is None:
            report = self.fold()
            self._verdicts = judge(self.bindings, evidence(report, self.stale)) if report.measurements else []
            bound = [
                Policy(name=p.name, sha256=p.sha256, n_gates=len(p.gates),
                       subjects=sorted({b.subject for b in self.bindings if b.policy is p}))
                for p in self.policies
                if any(b.policy is p for b in self.bindings)
            ]  # fmt: skip
            self.write(Judged(attempt=self.attempt, policies=bound, verdicts=self._verdicts))
        return self._verdicts

    def end(self, exit_status: int, *, interrupted: bool) -> Report:
        """Judge if nobody has, say that the run ended, and fold the final report (it is not written here)."""
        judged = self.judging and (bool(self.verdicts()) or bool(self.fold().measurements))
        state = "interrupted" if interrupted else "finished"
        self.write(Ended(attempt=self.attempt, state=state, finished_at=now(), exit_status=exit_status, judged=judged))
        self.report = self.fold()
        return self.report

    def close(self) -> None:
        """Release the journal."""
        try:
            self._journal.close()
        except OSError as e:
            self.broken = self.broken or f"the journal in {self.folder.name} could not be synced: {e.strerror or e}"


def evidence(report: Report, stale: dict[str, str]) -> Evidence:
    """What the judge may look at, out of a folded report."""
    absent: dict[str, list[str]] = {}
    for n in report.not_collected:
        absent.setdefault(n.subject, []).append(n.reason)
    return Evidence(
        measurements=report.measurements,
        cases={c.id: c for c in report.cases},
        stale=stale,
        filters=report.run.filters,
        absent=absent,
    )


def placeholder(
    run: Run, code: Code, environment: Environment, config: dict[str, Setting], *, errors: list[str]
) -> Report:
    """The report that stands while nothing better does: it does not pass, and says that the run did not finish."""
    return fold(
        [
            Started(attempt=run.attempts, run=msgspec.structs.replace(run, state="started"), code=code, environment=environment,
                    config=config),
            *(Noted(attempt=run.attempts, kind="error", text=e) for e in errors),
        ]
    )  # fmt: skip
