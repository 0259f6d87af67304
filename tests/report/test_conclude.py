"""pass_all: one run that passes, and every way in which it does not."""

import msgspec
import pytest

from trialplate.report.conclude import reasons, run_reasons
from trialplate.report.fold import fold
from trialplate.report.journal import Noted
from trialplate.report.model import NotCollected, Subject

pytestmark = pytest.mark.fast

OUTCOMES = ("failed", "error", "skipped", "xfailed", "xpassed", "crashed")
STATUSES = ("FAIL", "UNDECIDED", "MISSING", "THIN", "STALE", "INVALID")


def end(**more):
    return lambda m, e: [*e[:4], m.ended(**more)]


def judged(**more):
    return lambda m, e: [*e[:3], m.judged(m.verdict(**more)), e[4]]


def measured(*changes):
    return lambda m, e: [*e[:2], m.finished(measurements=[m.measurement(**c) for c in changes]), *e[3:]]


def error(text):
    return lambda m, e: [*e, Noted(attempt=1, kind="error", text=text)]


# what is done to the five events of a run that passes, and what the reasons must say then
WAYS_TO_RED = {
    "it never ended": (lambda m, e: e[:4], "the run did not finish"),
    "it was interrupted": (end(state="interrupted", exit_status=2), "the run was interrupted before its end"),
    "pytest.exit asked for status 0": (end(state="interrupted"), "the run was interrupted before its end"),
    "an interruption has status 2": (end(exit_status=2), "pytest was interrupted (status 2)"),
    "an internal error": (end(exit_status=3), "pytest ended with an internal error (status 3)"),
    "a usage error": (end(exit_status=4), "pytest ended with a usage error (status 4)"),
    "nothing selected": (end(exit_status=5), "no case was selected (status 5)"),
    "a status of somebody else's": (end(exit_status=77), "pytest ended with status 77"),
    "a failure that no case shows": (end(exit_status=1), "pytest ended with failures (status 1) that no case accounts for"),
    "an error": (error("x broke"), "error: x broke"),
    "nothing measured": (measured(), "nothing was measured"),
    "a case that did not run": (lambda m, e: [e[0], m.selected("a", "b"), *e[2:]], "case b: not run"),
    "only gates that are not required": (judged(required=False), "subject m|cpu|float32: no required gate judges it"),
    "a gate on another subject": (judged(subject="x"), "subject m|cpu|float32: no required gate judges it"),
    "no gate at all": (lambda m, e: [*e[:3], e[4]], "subject m|cpu|float32: no required gate judges it"),
    "a subject that was asked for and gave nothing": (
        lambda m, e: [e[0], m.selected(subjects=[m.KEY, "other|cpu|float32"]), *e[2:]],
        "subject other|cpu|float32: no required gate judges it",
    ),
    "a measurement without model or gate": (
        measured({}, {"subject": "", "metric": "loss"}),
        "subject (no model): no required gate judges it",
    ),
    "not judged": (end(judged=False), "nothing was judged"),
    "measured twice": (measured({}, {}), "error: measured twice: accuracy {} in a"),
    "finished twice": (lambda m, e: [*e, m.finished(reason="again")], "error: case a finished 2 times in one run"),
    "a gate case that failed without a verdict": (
        lambda m, e: [*e, m.finished("g", outcome="failed", measurements=[], gate=True, reason="no policy")],
        "case g: failed: no policy",
    ),
}  # fmt: skip


def test_a_run_that_passes_has_no_reasons(make):
    report = fold(make.passing())
    assert report.reasons == []
    assert report.pass_all


@pytest.mark.parametrize("way", WAYS_TO_RED)
def test_every_way_to_red(make, way):
    change, said = WAYS_TO_RED[way]
    report = fold(change(make, make.passing()))
    assert not report.pass_all
    assert said in report.reasons


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_passed_passes(make, outcome):
    started, selected, _, *rest = make.passing()
    report = fold([started, selected, make.finished(outcome=outcome, reason="because"), *rest])
    assert report.reasons == [f"case a: {outcome}: because"]


@pytest.mark.parametrize("status", STATUSES)
def test_only_the_verdict_pass_passes(make, status):
    report = fold(judged(status=status, reason="because")(make, make.passing()))
    assert report.reasons == [f"gate g on m|cpu|float32: {status}: because"]


@pytest.mark.parametrize("status", STATUSES)
def test_a_gate_that_is_not_required_is_shown_and_never_counts(make, status):
    verdicts = make.verdict(), make.verdict(gate="extra", status=status, required=False)
    report = fold([*make.passing()[:3], make.judged(*verdicts), make.ended()])
    assert report.pass_all
    assert [v.gate for v in report.gates] == ["g", "extra"]


def test_a_failed_gate_case_is_not_a_second_reason(make):
    gate = make.finished("gates::g", outcome="failed", measurements=[], gate=True)
    events = [*make.passing()[:3], gate, make.judged(make.verdict("FAIL", reason="low")), make.ended(exit_status=1)]
    assert fold(events).reasons == ["gate g on m|cpu|float32: FAIL: low"]


def test_nothing_measured_says_by_what_it_was_left_out(make):
    left_out = [NotCollected(case="a", subject=make.KEY, reason="needs two-digit year tokens")]
    selected = make.selected(filters=["-k 'years'"], not_collected=left_out)
    why = fold([make.started(), selected, make.ended(exit_status=5, judged=False)]).reasons
    assert "nothing was measured (selected by -k 'years'; not collected: needs two-digit year tokens)" in why


def test_two_models_under_one_key_are_an_error(make):
    def case(name, digest):
        subject = Subject(key=make.KEY, label="m", device="cpu", dtype="float32", weights_digest=digest)
        return msgspec.structs.replace(make.finished(name), subject=subject)

    started, _, _, *rest = make.passing()
    report = fold([started, make.selected("a", "b"), case("a", "1" * 64), case("b", "2" * 64), *rest])
    assert report.errors == [
        "subject m|cpu|float32 was not the same model in all cases (first 111111111111, then 222222222222)"
    ]
    assert not report.pass_all


@pytest.mark.parametrize("n", [0, 2])
def test_a_case_that_recorded_another_number_of_measurements_is_seen(make, n):
    report = fold(make.passing())
    changed = [make.measurement(params={"k": i}) for i in range(n)]
    why = reasons(report.run, report.subjects, report.cases, changed, report.gates, [])
    assert f"case a recorded 1 measurements, {n} are here" in why


def test_a_measurement_of_an_unknown_case_is_seen(make):
    report = fold(make.passing())
    foreign = [*report.measurements, make.measurement("elsewhere")]
    why = reasons(report.run, report.subjects, report.cases, foreign, report.gates, [])
    assert why == ["case elsewhere recorded 0 measurements, 1 are here"]


def test_a_run_that_says_it_finished_needs_a_status(make):
    run = msgspec.structs.replace(fold(make.passing()).run, exit_status=None)
    assert run_reasons(run) == ["the run has no exit status"]
