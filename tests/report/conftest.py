"""The events of a small run that passes; a test changes one of them and looks at what becomes of the report."""

from types import SimpleNamespace

import pytest

from trialplate.report.journal import Ended, Finished, Judged, Selected, Started
from trialplate.report.model import Case, Code, Environment, Measurement, Policy, Run, Verdict

KEY = "m|cpu|float32"


def _measurement(case="a", value=0.9, **more):
    given = {
        "subject": KEY,
        "metric": "accuracy",
        "n": 100,
        "unit": "fraction",
        "direction": "higher",
        "range": (0.0, 1.0),
    }
    return Measurement(case=case, value=value, **{**given, **more})


def _started(attempt=1, **more):
    run = Run(id="r", state="started", started_at="2026-01-01T00:00:00+00:00", **more)
    code = Code(trialplate="0", trialplate_sha256="c")
    environment = Environment(python="3", platform="p", cpu="c", cpu_count=1)
    return Started(attempt=attempt, run=run, code=code, environment=environment, config={})


def _finished(case="a", attempt=1, outcome="passed", measurements=None, **more):
    measurements = [_measurement(case)] if measurements is None else measurements
    subject = measurements[0].subject if measurements else ""
    return Finished(
        attempt=attempt, case=Case(id=case, subject=subject, outcome=outcome, **more), measurements=measurements
    )


def _verdict(status="PASS", **more):
    given = {"gate": "g", "subject": KEY, "policy": "p", "metric": "accuracy", "bound": "value >= 0.5", "reason": ""}
    return Verdict(status=status, **{**given, **more})


def _judged(*verdicts, attempt=1):
    policies = [Policy(name="p", sha256="s", n_gates=1, subjects=[KEY])]
    return Judged(attempt=attempt, policies=policies, verdicts=list(verdicts) or [_verdict()])


def _ended(attempt=1, **more):
    given = {"state": "finished", "finished_at": "2026-01-01T00:01:00+00:00", "exit_status": 0, "judged": True}
    return Ended(attempt=attempt, **{**given, **more})


def _selected(*cases, attempt=1, **more):
    return Selected(attempt=attempt, cases=list(cases) or ["a"], **{"subjects": [KEY], **more})


def _passing():
    return [_started(), _selected(), _finished(), _judged(), _ended()]


@pytest.fixture(scope="session")
def make():
    """Constructors of events with everything filled in; `make.passing()` is a whole run that passes."""
    return SimpleNamespace(
        KEY=KEY, measurement=_measurement, started=_started, selected=_selected, finished=_finished, verdict=_verdict,
        judged=_judged, ended=_ended, passing=_passing,
    )  # fmt: skip
