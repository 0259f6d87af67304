"""The reporting side, in the one process that writes: every test report becomes a journal event, the end becomes a report."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trialplate.plugin import finish, keys
from trialplate.plugin.cases import case_id, source_digest
from trialplate.plugin.filters import filters
from trialplate.plugin.outcomes import CaseTally, gate_reports
from trialplate.plugin.run import RunState
from trialplate.plugin.select import SelectPlugin
from trialplate.report.journal import Finished
from trialplate.report.model import Case, Dataset, Measurement, Report, Sample, Subject
from trialplate.report.plain import printable


class ReportPlugin(SelectPlugin):
    """Hooks of a reported run. Under xdist it is the controller's: it has no items, and runs the gates after the workers are done."""

    def __init__(
        self, config: pytest.Config, run: RunState, done: dict[str, str], known: Iterable[str], measured: list[Path]
    ) -> None:
        super().__init__(config, done, known)
        self.run, self.measured = run, measured
        self._tallies: dict[str, CaseTally] = {}
        self._gate_ids: set[str] = set()
        self._usage_errors: dict[str, None] = {}
        self._interrupted = False

    # -- what runs

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Keep the usage errors that only a collection can find, such as a path that does not exist."""
        try:
            return (yield)
        except pytest.UsageError as e:
            self.run.note("error", f"usage error: {printable('; '.join(str(a) for a in e.args))}")
            raise

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The selection of a run in one process; under xdist the controller has none."""
        if not self._is_controller():
            chosen = {case_id(i.nodeid, self.config) for i in session.items} | (set(self.all_cases) & set(self.done))
            self._gate_ids = {gate[0] for gate in self.gates}
            gates = [case_id(i, self.config) for i in self._gate_ids]
            not_collected = self.config.stash[keys.NOT_COLLECTED]
            self.run.select(chosen, filters(self.config), not_collected, self.subjects, gates, self.gone())

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker that it records, and what is done."""
        node.workerinput["trialplate_done"] = self.done
        node.workerinput["trialplate_known"] = sorted(self.known)
        node.workerinput["trialplate_measured"] = [str(p) for p in self.measured]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """All workers collect the same; the events add up to one selection."""
        self.run.select([case_id(i, self.config) for i in ids], filters(self.config))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """What a worker knew of items that did not run."""
        if error:
            self.run.note("degraded", f"worker {node.gateway.id} died: {_last_line(str(error))}")
        said = getattr(node, "workeroutput", {}).get("trialplate")
        if said:
            self.gates = [(nodeid, index, subject) for nodeid, index, subject in said["gates"]]
            self._usage_errors |= dict.fromkeys(said["usage_errors"])
            more = said["not_collected"], said["subjects"], (), said["gone"]
            self.run.select(said["kept"], filters(self.config), *more)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Nothing runs that could not be kept. Under xdist the gates run here, when the workers are done: judging happens once."""
        if self.run.broken:
            raise session.Interrupted(self.run.broken)
        self.run.on_broken = lambda reason: self._stop(session, reason)
        result = yield
        for text in self._usage_errors:
            self.run.note("error", f"usage error: {printable(text)}")
            raise pytest.UsageError(text)
        stopped = session.shouldstop or session.shouldfail
        if self._is_controller() and self.run.judging and not stopped and self.run.is_measured():
            for report in self._gate_reports():
                self.config.hook.pytest_runtest_logreport(report=report)
            session.testscollected += len(self.gates)
        if self.done and not session.testscollected:
            session.testscollected = len(self.done)  # a run that was continued and had nothing left to do is not empty
        return result

    # -- what happened

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected, or skips itself, hides its cases."""
        super().pytest_collectreport(report)
        where = report.nodeid or "the collection"
        if report.failed:
            self.run.note("error", f"{where} could not be collected: {_last_line(report.longreprtext)}")
        elif report.skipped:
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.run.note("error", f"{where} was skipped as a whole, with every case in it: {_last_line(str(text))}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the phases of a case; write the case when its last one is in."""
        tally = self._tallies.setdefault(report.nodeid, CaseTally())
        if tally.add(report):
            del self._tallies[report.nodeid]
            if tally.reruns:
                case = case_id(report.nodeid, self.config)
                self.run.note("degraded", f"case {case} was run again {tally.reruns} times; its last run counts")
            for text in (tally.payload or {}).get("degraded", ()):
                self.run.note("degraded", text)
            self.run.write(self._event(report.nodeid, tally))

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep what broke."""
        self.run.note("error", f"internal error: {_last_line(str(excrepr))}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ctrl-C, pytest.exit (whatever status it asks for), --exitfirst: the run ends before its end."""
        self._interrupted = True
        if text := str(excinfo.value):
            self.run.note("error", f"interrupted: {_last_line(text)}")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        """Fold, judge and write before anybody looks; a run that does not pass, or that could not be written, does not exit with 0."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            finish.explain_empty(self.config, self.run)
        report = self.run.end(int(exitstatus), interrupted=self._interrupted or int(exitstatus) == 2)
        finish.write_everything(self.run, report)
        self._refuse_status_0(session, report)
        result = yield
        self._refuse_status_0(session, report)  # whatever somebody made of it meanwhile
        finish.tell_others(self.config, self.run, report)
        return result

    # -- what people see

    def pytest_report_header(self) -> list[str]:
        """Models, devices and the folder, before anything runs."""
        from trialplate.plugin.terminal import header

        return header(self.config, self.run)

    @pytest.hookimpl(trylast=True)  # the verdict is the last thing that is read
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tables and the verdict."""
        from trialplate.plugin.terminal import write_summary

        write_summary(terminalreporter, self.run)

    # -- inside

    def _is_controller(self) -> bool:
        return self.config.pluginmanager.hasplugin("dsession")

    def _refuse_status_0(self, session: pytest.Session, report: Report) -> None:
        red = not report.pass_all and self.run.judging
        if session.exitstatus == pytest.ExitCode.OK and (red or self.run.broken):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _stop(self, session: pytest.Session, reason: str) -> None:
        session.shouldstop = reason
        if self._is_controller():  # xdist's loop looks at its own flag
            self.config.pluginmanager.getplugin("dsession").shouldstop = reason

    def _event(self, nodeid: str, tally: CaseTally) -> Finished:
        said = tally.payload or {}
        case = Case(
            id=case_id(nodeid, self.config),
            subject=said.get("subject", ""),
            outcome=tally.outcome,
            reason=tally.reason,
            duration_s=round(tally.duration, 4),
            source=source_digest(nodeid, self.config),
            gate=nodeid in self._gate_ids,
            measured=len(said.get("measurements", ())),
        )
        identity = said.get("identity")
        try:
            return Finished(
                attempt=self.run.attempt,
                case=case,
                measurements=msgspec.convert(said.get("measurements", []), list[Measurement]),
                samples=msgspec.convert(said.get("samples", []), list[Sample]),
                data=msgspec.convert(said.get("data", []), list[Dataset]),
                subject=msgspec.convert(identity, Subject) if identity else None,
            )
        except msgspec.ValidationError as e:  # an adapter of one's own that describes itself in other fields
            reason = f"what it recorded cannot be kept: {e}"
            lost = msgspec.structs.replace(case, outcome="error", reason=reason, measured=0)
            return Finished(attempt=self.run.attempt, case=lost)

    def _gate_reports(self) -> Generator[pytest.TestReport, None, None]:
        verdicts = {(v.policy, v.gate, v.subject): v for v in self.run.verdicts()}
        gates = [case_id(gate[0], self.config) for gate in self.gates]
        self.run.select(gates, filters(self.config), gates=gates)
        self._gate_ids = {gate[0] for gate in self.gates}
        for nodeid, index, subject in self.gates:
            binding = self.run.bindings[index] if index < len(self.run.bindings) else None
            verdict = verdicts.get((binding.policy.name, binding.gate.name, binding.subject)) if binding else None
            yield from gate_reports(nodeid, verdict, subject)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in printable(text).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
