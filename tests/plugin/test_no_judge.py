"""`--no-judge` says: measure only. Nothing is judged, so nothing passes, and a bad number is no failure."""

import pytest


@pytest.mark.parametrize("n", [0, 1])
def test_no_gate_runs_and_the_status_is_that_of_the_cases(suite, n):
    suite.standard().write(
        "policies/p.toml", "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.99\n"
    )
    assert suite.run("evals", "-n", n, "--trialplate-no-judge").ret == 0
    report = suite.report()
    assert (report.gates, report.policies, report.run.judged) == ([], [], False)
    assert [c for c in report.cases if c.gate] == []
    assert report.reasons == ["nothing was judged"]
    assert len(report.measurements) == 3


def test_a_failing_case_is_a_failure_all_the_same(suite):
    suite.standard().write("evals/test_fails.py", "def test_f():\n    assert 0\n")
    assert suite.run("evals", "--trialplate-no-judge").ret == 1
    assert "case test_fails.py::test_f: failed: assert 0" in suite.report().reasons


def test_what_was_measured_can_be_judged_later(suite):
    suite.standard()
    suite.run("evals", "--trialplate-no-judge")
    assert suite.run("evals", "-m", "gate", "--trialplate-measured=reports/latest").ret == 0
