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
from trialplate.report.journal import (
    AnyEvent,
    Ended,
    Journal,
    JournalError,
    Judged,
    Noted,
    Selected,
    Started,
    read_journal,
)
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
        self._started: Started | None = None
        self._unwritten: list[AnyEvent] = []
        self._verdicts: list[Verdict] | None = None
        self._measured = False

    def start(self, run: Run, code: Code, environment: Environment, config: dict[str, Setting]) -> None:
        """Write the first event, durably. Raises OSError: a run that cannot be kept must not begin."""
        self._started = Started(attempt=self.attempt, run=run, code=code, environment=environment, config=config)
        self._journal.append(self._started)
        self._journal.checkpoint()

    def write(self, event: AnyEvent) -> None:
        """Append an event; after a failed write nothing more is written to the file, so that its torn line stays the last one."""
        if self.broken is None:
            try:
                self._journal.append(event)
                return
            except OSError as e:
                self._break(e)
        self._unwritten.append(event)

    def select(
        self,
        cases: Iterable[str],
        filters: list[str],
        not_collected: Iterable[dict[str, str]] = (),
        subjects: Iterable[str] = (),
        gates: Iterable[str] = (),
        gone: Iterable[str] = (),
    ) -> None:
        """Say which cases of which subjects this run means to run."""
        left_out = [NotCollected(**n) for n in not_collected]
        self.write(
            Selected(
                attempt=self.attempt,
                cases=sorted(cases),
                filters=sorted(filters),
                not_collected=left_out,
                subjects=sorted(subjects),
                gates=sorted(gates),
                gone=sorted(gone),
            )
        )

    def note(self, kind: str, text: str) -> None:
        """Keep an "error" (a reason for red) or a "degraded" (shown)."""
        self.write(Noted(attempt=self.attempt, kind=kind, text=text))

    def fold(self, *more: AnyEvent) -> Report:
        """The report of what has happened so far, and of `more`."""
        try:
            events, torn = read_journal(self.folder)
        except JournalError as e:  # somebody removed or changed it while we wrote
            lost = Noted(attempt=self.attempt, kind="error", text=str(e))
            self.broken = self.broken or str(e)
            events, torn = [*([self._started] if self._started else []), lost], False
        return fold([*events, *self._unwritten, *more], torn=torn)

    def verdicts(self) -> list[Verdict]:
        """Judge once, from the fold; later calls give the same verdicts. A subject that took no part is not judged."""
        if self._verdicts is None:
            report = self.fold()
            self._measured = bool(report.measurements)
            present = {*report.run.subjects} | {m.subject for m in report.measurements}
            bindings = [b for b in self.bindings if b.subject in present] if self._measured else []
            self._verdicts = judge(bindings, evidence(report, self.stale))
            bound = [
                Policy(name=p.name, sha256=p.sha256, n_gates=len(p.gates),
                       subjects=sorted({b.subject for b in bindings if b.policy is p}))
                for p in self.policies
                if any(b.policy is p for b in bindings)
            ]  # fmt: skip
            self.write(Judged(attempt=self.attempt, policies=bound, verdicts=self._verdicts))
        return self._verdicts

    def is_measured(self) -> bool:
        """Whether anything was measured; judges, so that it is asked once."""
        self.verdicts()
        return self._measured

    def end(self, exit_status: int, *, interrupted: bool) -> Report:
        """Judge if nobody has, say that the run ended, and fold the final report (it is not written here).

        The report of a run that exits with 0 and does not pass states 1, as the run itself does.
        """
        judged = self.judging and self.is_measured()
        state = "interrupted" if interrupted else "finished"
        ended = Ended(attempt=self.attempt, state=state, finished_at=now(), exit_status=exit_status, judged=judged)
        report = self.fold(ended)
        if exit_status == 0 and self.judging and not report.pass_all:
            ended = msgspec.structs.replace(ended, exit_status=1)
            report = msgspec.structs.replace(report, run=msgspec.structs.replace(report.run, exit_status=1))
        self.write(ended)
        self._checkpoint()
        self.report = self.fold() if self.broken else report
        return self.report

    def _checkpoint(self) -> None:
        if self.broken is None:
            try:
                self._journal.checkpoint()
            except OSError as e:
                self._break(e)

    def _break(self, error: OSError) -> None:
        self.broken = f"the journal in {self.folder.name} could not be written: {error.strerror or error}"
        self._unwritten.append(Noted(attempt=self.attempt, kind="error", text=self.broken))
        self.on_broken(self.broken)

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


def placeholder(run: Run, code: Code, environment: Environment, config: dict[str, Setting]) -> Report:
    """The report that stands while nothing better does: it does not pass, and says that the run did not finish."""
    return fold([Started(attempt=run.attempts, run=run, code=code, environment=environment, config=config)])
