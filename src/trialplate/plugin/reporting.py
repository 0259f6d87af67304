"""The reporting side, in the one process that writes: every test report becomes a journal event, the end becomes a report."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trialplate.plugin import isolation, keys
from trialplate.plugin.cases import case_id, source_digest
from trialplate.plugin.outcomes import CaseTally
from trialplate.plugin.run import RunState
from trialplate.plugin.select import SelectPlugin, filters
from trialplate.report.journal import Finished
from trialplate.report.model import Case, Dataset, Measurement, Sample, Subject


class ReportPlugin(SelectPlugin):
    """Hooks of a reported run. Under xdist it is the controller's: it has no items, and runs the gates after the workers are done."""

    def __init__(self, config: pytest.Config, run: RunState, done: dict[str, str], measured: list[Path]) -> None:
        super().__init__(config, done)
        self.measured = measured
        self.run = run
        self._tallies: dict[str, CaseTally] = {}
        self._gate_ids: set[str] = set()

    # -- what runs

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The selection of a run in one process; under xdist the controller has none."""
        if not self._is_controller():
            self._stop_when_broken(session)
            chosen = {case_id(i.nodeid, self.config) for i in session.items} | (set(self.all_cases) & set(self.done))
            self._gate_ids = {nodeid for nodeid, _ in self.gates}
            self.run.select(chosen, filters(self.config), self.config.stash[keys.NOT_COLLECTED])

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker that it records, and what is done."""
        node.workerinput["trialplate_done"] = self.done
        node.workerinput["trialplate_measured"] = [str(p) for p in self.measured]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """All workers collect the same; the events add up to one selection."""
        self.run.select([*(case_id(i, self.config) for i in ids), *self.done], filters(self.config), [])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """What a worker knew of items that did not run."""
        said = getattr(node, "workeroutput", {}).get("trialplate")
        if said:
            self.gates = [(nodeid, index) for nodeid, index in said["gates"]]
            self.run.select([], filters(self.config), said["not_collected"])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Global generators are seeded for the case and restored after it."""
        with isolation.seeded(self.config, item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Under xdist, run the gates here when the workers are done: judging happens once, from everything."""
        self._stop_when_broken(session)
        result = yield
        stopped = session.shouldstop or session.shouldfail
        if self._is_controller() and self.run.judging and not stopped and self.run.fold().measurements:
            for report in self._gate_reports():
                self.config.hook.pytest_runtest_logreport(report=report)
        return result

    # -- what happened

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected hides its cases."""
        if report.failed:
            self.run.note(
                "error", f"{report.nodeid or 'collection'} could not be collected: {_last_line(report.longreprtext)}"
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the phases of a case; write the case when its last one is in."""
        tally = self._tallies.setdefault(report.nodeid, CaseTally())
        if tally.add(report):
            del self._tallies[report.nodeid]
            self.run.finished(self._event(report.nodeid, tally))

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep what broke."""
        self.run.note("error", f"internal error: {_last_line(str(excrepr))}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fold, judge and write; a run that does not pass does not exit with 0."""
        from trialplate.plugin.finish import write_everything

        report = self.run.end(int(exitstatus), interrupted=int(exitstatus) == pytest.ExitCode.INTERRUPTED)
        write_everything(self.config, self.run, report)
        if not report.pass_all and exitstatus == pytest.ExitCode.OK and self.run.judging:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

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

    def _stop_when_broken(self, session: pytest.Session) -> None:
        def stop(reason: str) -> None:
            session.shouldstop = reason

        self.run.on_broken = stop
        if self.run.broken:
            stop(self.run.broken)

    def _event(self, nodeid: str, tally: CaseTally) -> Finished:
        said = tally.payload or {}
        subject = said.get("subject", "")
        case = Case(
            id=case_id(nodeid, self.config),
            subject=subject,
            outcome=tally.outcome,
            reason=tally.reason,
            duration_s=round(tally.duration, 4),
            source=source_digest(nodeid, self.config),
            gate=nodeid in self._gate_ids,
        )
        identity = said.get("identity")
        return Finished(
            attempt=self.run.attempt,
            case=case,
            measurements=msgspec.convert(said.get("measurements", []), list[Measurement]),
            samples=msgspec.convert(said.get("samples", []), list[Sample]),
            data=msgspec.convert(said.get("data", []), list[Dataset]),
            subject=msgspec.convert(identity, Subject) if identity else None,
        )

    def _gate_reports(self) -> Generator[pytest.TestReport, None, None]:
        from trialplate.plugin.outcomes import gate_reports

        verdicts = {(v.policy, v.gate, v.subject): v for v in self.run.verdicts()}
        self.run.select([case_id(nodeid, self.config) for nodeid, _ in self.gates], filters(self.config), [])
        self._gate_ids = {nodeid for nodeid, _ in self.gates}
        for nodeid, index in self.gates:
            binding = self.run.bindings[index] if index < len(self.run.bindings) else None
            verdict = verdicts[binding.policy.name, binding.gate.name, binding.subject] if binding else None
            yield from gate_reports(nodeid, verdict)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
