"""Folding: a pure function of the set of events, whatever the order in which workers deliver them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialplate.report.fold import FoldError, current, fold, samples
from trialplate.report.journal import Carried, Noted
from trialplate.report.model import Case, Code, Dataset, NotCollected, Sample
from trialplate.report.store import decode, encode

pytestmark = pytest.mark.fast


def busy(make):
    """Two attempts of three cases, with two workers, notes, data sets, samples, and a case that was delivered twice."""
    left_out = [NotCollected(case=c, subject=make.KEY, reason="no data") for c in ("x", "y")]
    sample = Sample(metric="accuracy", item="i", value=1.0)
    data = [Dataset(name="d", sha256="0", n_items=3)]
    return [
        make.started(),
        make.selected("a", "b", "c"),
        make.finished("a"),
        make.finished("b", outcome="failed", measurements=[]),
        Noted(attempt=1, kind="error", text="worker died"),
        make.started(attempt=2, workers=2),
        make.selected("b", "c", attempt=2, not_collected=left_out[:1], filters=["-k 'x'"]),
        make.selected("b", "c", attempt=2, not_collected=left_out[1:]),
        msgspec.structs.replace(make.finished("b", attempt=2), samples=[sample], data=data),
        make.finished("c", attempt=2, measurements=[make.measurement("c", params={"k": k}) for k in (5, 1)]),
        make.finished("c", attempt=2, outcome="crashed", measurements=[]),
        Noted(attempt=2, kind="degraded", text="slow"),
        Noted(attempt=2, kind="error", text="y"),
        Noted(attempt=2, kind="error", text="x"),
        make.judged(attempt=2),
        make.ended(attempt=2),
    ]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_interleaving_of_events_gives_the_same_report(make, data):
    events = busy(make)
    shuffled = data.draw(st.permutations(events))
    report = fold(shuffled)
    assert report == fold(events)
    assert decode(encode(report), "r") == report  # its reasons are those that a reader computes from its content
    assert list(samples(shuffled)) == list(samples(events))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_events_that_arrive_twice_with_other_content_settle_the_same_way(make, data):
    twice = [
        make.started(), make.started(workers=2), make.selected(), make.finished(), make.judged(),
        make.judged(make.verdict("FAIL")), make.ended(), make.ended(exit_status=1),
    ]  # fmt: skip
    assert fold(data.draw(st.permutations(twice))) == fold(twice)


def test_the_last_attempt_of_a_case_counts(make):
    report = fold(busy(make)[:9])
    assert {c.id: c.outcome for c in report.cases} == {"a": "passed", "b": "passed", "c": "not run"}
    assert report.run.attempts == 2
    assert report.run.started_at == make.started().run.started_at


def test_what_was_not_as_asked_stays_known_and_errors_are_those_of_the_last_attempt(make):
    report = fold(busy(make))
    assert report.degraded == ["slow"]
    assert report.errors == ["x", "y", "case c finished 2 times in one run"]


def test_cases_that_the_evals_no_longer_have_are_gone(make):
    events = [make.started(), make.selected("a", "b"), make.finished("a"), make.finished("b"), make.started(2)]
    report = fold([*events, make.selected("b", attempt=2, gone=["a"])])
    assert [c.id for c in report.cases] == ["b"]
    assert [m.case for m in report.measurements] == ["b"]


def test_attempts_with_other_code_or_libraries_are_said(make):
    first, second = make.started(), make.started(2)
    second = msgspec.structs.replace(
        second,
        code=Code(trialplate="0", trialplate_sha256="other"),
        environment=msgspec.structs.replace(second.environment, packages={"torch": "3"}),
    )
    assert fold([first, second]).degraded == [
        "attempt 2 ran with other code than attempt 1",
        "attempt 2 ran with other versions of its libraries than attempt 1",
    ]


def test_a_carried_case_keeps_the_count_of_the_run_that_measured_it(make):
    lost = Carried(
        attempt=1, case=Case(id="a", subject=make.KEY, outcome="passed", measured=2), measurements=[make.measurement()]
    )
    assert (
        "case a recorded 2 measurements, 1 are here" in fold([*make.passing()[:2], lost, *make.passing()[3:]]).reasons
    )


def test_measurements_are_in_the_order_of_their_keys(make):
    params = [m.params for m in fold(busy(make)[:10]).measurements if m.case == "c"]
    assert params == [{"k": 1}, {"k": 5}]


def test_a_torn_tail_is_an_error_of_the_report(make):
    assert fold(make.passing(), torn=True).errors == [
        "the journal ends in a torn line; the case that was being written is lost"
    ]


def test_events_without_a_start_are_no_report(make):
    with pytest.raises(FoldError, match="no run started"):
        fold([make.finished()])


def test_current_is_one_event_a_case_in_the_order_of_ids(make):
    assert [e.case.id for e in current(busy(make))] == ["a", "b", "c"]


def test_a_carried_case_is_not_gone_in_the_attempt_that_carries_it(make):
    carried = Carried(
        attempt=2, case=Case(id="a", subject=make.KEY, outcome="passed", measured=1), measurements=[make.measurement()]
    )
    events = [make.started(), make.finished("a"), make.started(2), carried, make.selected("b", attempt=2, gone=["a"])]
    assert [c.id for c in fold(events).cases] == ["a", "b"]
