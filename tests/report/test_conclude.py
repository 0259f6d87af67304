"""pass_all: one run that passes, and every way in which it does not."""

import msgspec
import pytest

from trialplate.report.fold import fold
from trialplate.report.journal import Noted
from trialplate.report.model import Case, NotCollected

pytestmark = pytest.mark.fast

# name -> (what is done to the five events of a run that passes, what the reasons must say)
WAYS_TO_RED = {
    "never ended": (lambda m, e: e[:4], "the run did not finish"),
    "interrupted": (lambda m, e: [*e[:4], m.ended(state="interrupted", exit_status=2)], "the run was interrupted before its end"),
    "interrupted with status 0": (lambda m, e: [*e[:4], m.ended(state="interrupted")], "the run was interrupted before its end"),
    "internal error": (lambda m, e: [*e[:4], m.ended(exit_status=3)], "pytest ended with an internal error (status 3)"),
    "usage error": (lambda m, e: [*e[:4], m.ended(exit_status=4)], "pytest ended with a usage error (status 4)"),
    "nothing selected": (
        lambda m, e: [e[0], m.selected(filters=["-m 'gpu'"])._replace_cases(), m.ended(exit_status=5, judged=False)],
        "no case was selected (status 5)",
    ),
    "unknown status": (lambda m, e: [*e[:4], m.ended(exit_status=77)], "pytest ended with status 77"),
    "a failure that no case accounts for": (
        lambda m, e: [*e[:4], m.ended(exit_status=1)],
        "pytest ended with failures (status 1) that no case accounts for",
    ),
    "an error": (lambda m, e: [*e, Noted(attempt=1, kind="error", text="x broke")], "error: x broke"),
    "nothing measured": (lambda m, e: [e[0], e[1], m.finished(measurements=[]), e[4]], "nothing was measured"),
    "not run": (lambda m, e: [e[0], m.selected("a", "b"), *e[2:]], "case b: not run"),
    "a case without a required gate": (
        lambda m, e: [*e[:3], m.judged(m.verdict(required=False)), e[4]],
        "subject m|cpu|float32: no required gate judges it",
    ),
    "a subject that was asked for and never measured": (
        lambda m, e: [e[0], m.selected(subjects=[m.KEY, "other|cpu|float32"]), *e[2:]],
        "subject other|cpu|float32: no required gate judges it",
    ),
    "a measurement without a model and a gate": (
        lambda m, e: [*e[:2], m.finished(measurements=[m.measurement(), m.measurement(subject="", metric="loss")]), *e[3:]],
        "subject (no model): no required gate judges it",
    ),
    "not judged": (lambda m, e: [*e[:3], m.ended(judged=False)], "nothing was judged"),
    "judged by nothing": (lambda m, e: [*e[:3], e[4]], "subject m|cpu|float32: no required gate judges it"),
    "measured twice": (
        lambda m, e: [*e[:2], m.finished(measurements=[m.measurement(), m.measurement()]), *e[3:]],
        "error: measured twice: accuracy {} in a",
    ),
    "finished twice": (lambda m, e: [*e, m.finished()], "error: case a finished 2 times in one run"),
    "another model in another case": (
        lambda m, e: [e[0], m.selected("a", "b"), m.finished(), m.finished("b"), *e[3:]],
        None,  # filled in below: it needs subjects
    ),
}  # fmt: skip
del WAYS_TO_RED["another model in another case"], WAYS_TO_RED["nothing selected"]
