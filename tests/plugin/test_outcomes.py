"""How a case ended, out of the reports that pytest makes of it: one passed phase is not a passed case, and a rerun is said."""

import pytest

MARKED = """
import pytest

def test_passes(record):
    record("loss", 1, n=1)

def test_fails(record):
    record("loss", 1, n=1)
    assert False, "broken"

def test_skips():
    pytest.skip("no reason is good enough")

@pytest.mark.xfail
def test_fails_as_expected():
    assert 0

@pytest.mark.xfail
def test_passes_unexpectedly():
    pass

@pytest.mark.xfail(strict=True)
def test_passes_unexpectedly_and_strictly():
    pass

@pytest.fixture
def bad_setup():
    raise ValueError("no set-up")

def test_errors_before(bad_setup):
    pass

@pytest.fixture
def bad_teardown():
    yield
    raise ValueError("no clean-up")

def test_errors_after(bad_teardown, record):
    record("loss", 1, n=1)

def test_has_a_subtest_that_fails(subtests, record):
    record("loss", 1, n=1)
    for i in range(3):
        with subtests.test(i=i):
            assert i != 1, "one"
    record("loss", 1, n=1, k=2)

def test_has_a_subtest_that_skips(subtests):
    with subtests.test():
        pytest.skip("partly")

def test_has_subtests_that_pass(subtests, record):
    for i in range(3):
        with subtests.test(i=i):
            record("loss", 1, n=1, k=i)

@pytest.mark.parametrize("nothing", [])
def test_of_nothing(nothing):
    pass

def test_fails_in_two_lines():
    pytest.fail("one\\ntwo")
"""
EXPECTED = {
    "test_passes": ("passed", ""),
    "test_fails": ("failed", "broken"),
    "test_skips": ("skipped", "Skipped: no reason is good enough"),
    "test_fails_as_expected": ("xfailed", "assert 0"),
    "test_passes_unexpectedly": ("xpassed", ""),
    "test_passes_unexpectedly_and_strictly": ("failed", "[XPASS(strict)]"),
    "test_errors_before": ("error", "ValueError: no set-up"),
    "test_errors_after": ("error", "ValueError: no clean-up"),
    "test_has_a_subtest_that_fails": ("failed", "one"),
    "test_has_a_subtest_that_skips": ("skipped", "Skipped: partly"),
    "test_has_subtests_that_pass": ("passed", ""),
    "test_of_nothing[NOTSET]": ("skipped", "Skipped: got empty parameter set for (nothing)"),
    "test_fails_in_two_lines": ("failed", "one"),
}


@pytest.mark.parametrize("args", [["-n", "1"], ["-p", "no:terminal"]], ids=["worker", "no terminal"])
def test_every_way_to_end(suite, args):
    suite.standard().write("evals/test_probe.py", MARKED)
    assert suite.run("evals", *args).ret == 1
    report = suite.report()
    found = {c.id.partition("::")[2]: (c.outcome, c.reason.partition("\n")[0]) for c in report.cases if not c.gate}
    assert found == EXPECTED
    assert {c.id.partition("::")[2]: c.measured for c in report.cases if c.measured} == {
        "test_passes": 1, "test_fails": 1, "test_errors_after": 1, "test_has_a_subtest_that_fails": 2, "test_has_subtests_that_pass": 3,
    }  # fmt: skip
    assert {v.gate: v.status for v in report.gates} == {"acc": "MISSING", "loss": "INVALID"}
    for name, (outcome, _) in EXPECTED.items():
        assert any(f"::{name}: {outcome}" in r for r in report.reasons) is (outcome != "passed")


RERUNS = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    '''What a plugin that runs flaky tests again does.'''
    for last in (False, False, True):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            if report.failed and not last:
                report.outcome = "rerun"
                item.ihook.pytest_runtest_logreport(report=report)
                break
            item.ihook.pytest_runtest_logreport(report=report)
        else:
            break
    return True
"""


def test_a_case_that_ran_again_counts_once_and_is_said(suite):
    suite.standard().write("conftest.py", RERUNS)
    flaky = "\ntries = []\ndef test_flaky(record):\n    tries.append(1)\n    record('perplexity', len(tries), n=1)\n    assert len(tries) == 3\n"
    probe = suite.path / "evals/test_probe.py"
    probe.write_text(probe.read_text() + flaky)
    suite.run()
    report = suite.report()
    assert [m.value for m in report.measurements if m.metric == "perplexity"] == [3.0]
    assert report.degraded == ["case test_probe.py::test_flaky was run again 2 times; its last run counts"]
    assert next(c for c in report.cases if "flaky" in c.id).outcome == "passed"


def test_a_case_whose_call_was_never_made_is_an_error(suite):
    suite.standard()
    assert suite.run("evals", "--setup-only").ret == 1
    report = suite.report()
    assert {(c.outcome, c.reason) for c in report.cases if not c.gate} == {("error", "it never ran")}


def test_a_failure_in_words_that_utf8_cannot_hold_is_escaped(suite):
    suite.standard().write("evals/test_z.py", "import pytest\ndef test_z():\n    pytest.fail('one \\ud800')\n")
    suite.run()
    assert suite.report().reasons == ["case test_z.py::test_z: failed: one \\ud800"]


def test_gates_without_any_policy_fail(suite):
    suite.standard().write("pytest.ini", "[pytest]\ntrialplate_evals = evals\n")
    for n in (0, 1):
        assert suite.run("evals", "-n", n).ret == 1
        report = suite.report()
        assert [(c.id, c.outcome) for c in report.cases if c.gate] == [("test_gates.py::test_gate[no policy]", "error")]
        assert "subject (no model): no required gate judges it" in report.reasons


def test_the_same_case_twice_is_red(suite):
    suite.standard()
    assert suite.run("evals/test_probe.py", "evals/test_probe.py", "evals/test_gates.py", "--keep-duplicates").ret == 1
    assert "error: case test_probe.py::test_b finished 2 times in one run" in suite.report().reasons


def test_two_folders_of_evals_with_one_name_for_two_cases_are_red(suite):
    suite.standard().write(
        "pytest.ini", "[pytest]\ntrialplate_evals =\n  evals\n  more\naddopts = --import-mode=importlib\n"
    )
    suite.write("more/test_probe.py", "def test_b(record):\n    record('perplexity', 2, n=1)\n")
    suite.run("evals", "more")
    assert "error: case test_probe.py::test_b finished 2 times in one run" in suite.report().reasons


def test_what_an_adapter_of_ones_own_says_of_itself_in_other_words_is_an_error_of_its_case(suite):
    suite.standard().write(
        "evals/test_own.py",
        "def test_o(record):\n    record('loss', 1, n=1, k=9)\n    record.identity = {'name': 'x'}\n",
    )
    assert suite.run().ret == 1
    report = suite.report()
    bad = next(c for c in report.cases if c.outcome == "error")
    assert (bad.id, bad.measured) == ("test_own.py::test_o", 0)
    assert bad.reason.startswith("what it recorded cannot be kept: Object ")
    assert len(report.measurements) == 3
