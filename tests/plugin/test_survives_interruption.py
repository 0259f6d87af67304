"""Ctrl-C, kill -9, --exitfirst, pytest.exit, an internal error, two runs at once: what was measured is kept, and nothing is green."""

import json
import signal
import time

import pytest

WAITS = """
import pathlib, time

def test_a(record):
    record("accuracy", 0.9, n=100, k=1)

def test_b(record):
    pathlib.Path("waiting").touch()
    deadline = time.monotonic() + 30
    while not pathlib.Path("go on").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    record("accuracy", 0.9, n=100, k=5)
    record("loss", 1, n=1)
"""


def start_and_wait(suite, *args):
    """A run in a process of its own that has come to its second case."""
    suite.write("evals/test_probe.py", WAITS)
    process = suite.popen(*args)
    deadline = time.monotonic() + 60
    while not (suite.path / "waiting").exists():
        assert time.monotonic() < deadline, "the run never came to its second case"
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_a_run_that_is_killed_keeps_what_it_measured(suite, number):
    suite.standard()
    process = start_and_wait(suite, "evals")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (2 if number == signal.SIGINT else -number)
    report = suite.report()
    assert not json.loads((suite.latest / "report.json").read_text())["pass_all"]
    assert [m.params for m in report.measurements] == [{"k": 1}]
    state = {signal.SIGINT: "the run was interrupted before its end"}.get(number, "the run did not finish")
    assert report.reasons[0] == state
    assert "case test_probe.py::test_b: not run" in report.reasons


def test_ctrl_c_with_workers_keeps_what_was_measured(suite):
    suite.standard()
    process = start_and_wait(suite, "evals", "-n", "1")
    process.send_signal(signal.SIGINT)
    (suite.path / "go on").touch()
    process.communicate(timeout=60)
    assert process.returncode == 2
    report = suite.report()
    assert report.reasons[0] == "the run was interrupted before its end"
    assert [m.params for m in report.measurements] == [{"k": 1}]


def test_two_runs_at_once_keep_apart(suite, results):
    suite.standard()
    first = start_and_wait(suite, "evals")
    folder = suite.latest
    refused = suite.run("evals", f"--trialplate-report={folder}")
    assert (refused.ret, "exists already" in refused.stderr.str()) == (4, True)
    (suite.path / "go on").touch()
    assert suite.run().ret == 0
    second = suite.report()
    assert suite.latest != folder
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert results(suite.report(folder)) == results(second)
    assert suite.report(folder).run.id != second.run.id


def test_exitfirst_judges_what_there_is(suite):
    suite.standard().write(
        "evals/test_probe.py",
        "def test_a(record):\n    record('loss', 1, n=1)\ndef test_b():\n    assert 0\ndef test_c():\n    pass\n",
    )
    assert suite.run("evals", "-x").ret == 1
    report = suite.report()
    assert {c.id.partition("::")[2]: c.outcome for c in report.cases} == {
        "test_a": "passed", "test_b": "failed", "test_c": "not run", "test_gate[-acc]": "not run", "test_gate[-loss]": "not run",
    }  # fmt: skip
    assert {v.gate: v.status for v in report.gates} == {"acc": "MISSING", "loss": "PASS"}
    (missing,) = [r for r in report.reasons if "gate acc" in r]
    assert "1 cases did not run; 1 cases of this subject did not pass" in missing


@pytest.mark.parametrize("status", [None, 0, 7])
def test_pytest_exit_is_an_interruption_whatever_status_it_asks_for(suite, status):
    ask = f"import pytest\ndef test_c():\n    pytest.exit('enough', returncode={status})\n"
    suite.standard().write("evals/test_z.py", ask)
    assert suite.run().ret == {None: 2, 0: 0, 7: 7}[status] or status == 0
    report = suite.report()
    assert report.run.state == "interrupted"
    assert "error: interrupted: enough" in report.reasons
    assert len(report.measurements) == 3


def test_pytest_exit_with_status_0_does_not_exit_with_0(suite):
    suite.standard().write("evals/test_z.py", "import pytest\ndef test_c():\n    pytest.exit('enough', returncode=0)\n")
    assert suite.run().ret == 1


def test_an_internal_error_is_named_and_keeps_what_was_measured(suite):
    suite.standard().write(
        "conftest.py",
        "def pytest_runtest_teardown(item):\n    if 'test_b' in item.name:\n        raise SystemError\n\ndef pytest_runtest_logfinish(nodeid):\n    if 'test_b' in nodeid:\n        raise LookupError('no such thing')\n",
    )
    assert suite.run().ret == 3
    report = suite.report()
    assert "pytest ended with an internal error (status 3)" in report.reasons
    assert any("internal error: " in e and "no such thing" in e for e in report.errors)
    assert len(report.measurements) == 3


def test_a_nan_fails_its_case_and_no_other(suite):
    suite.standard().write(
        "evals/test_nan.py",
        "import numpy as np\ndef test_n(record):\n    record('loss', np.float32('nan'), n=1, k=1)\n",
    )
    assert suite.run().ret == 1
    report = suite.report()
    assert {v.status for v in report.gates} == {"PASS"}
    (reason,) = report.reasons
    assert reason.startswith(
        "case test_nan.py::test_n: failed: trialplate.report.plain.RecordError: loss: value is nan; only finite"
    )
