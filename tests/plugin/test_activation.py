"""A report is written when it is asked for, or when an argument lies in a folder of evals; otherwise nothing is."""

import pytest

from trialplate.report.store import read_report

IDLE = [
    "--collect-only",
    "--fixtures",
    "--fixtures-per-test",
    "--markers",
    "--help",
    "--version",
    "--setup-plan",
    "--cache-show",
]


@pytest.mark.parametrize(
    "args",
    [["evals"], ["evals/test_probe.py"], ["evals/test_probe.py::test_b"], ["evals/"], ["tests", "evals"]],
    ids=" ".join,
)
def test_an_argument_in_a_folder_of_evals_starts_a_report(suite, args):
    suite.standard().write("tests/test_x.py", "def test_x():\n    pass\n")
    suite.run(*args)
    assert len(suite.runs) == 1
    assert suite.report().measurements


@pytest.mark.parametrize("args", [["tests"], ["."], ["evals_of_another_kind"]], ids=" ".join)
def test_no_such_argument_no_report(suite, args):
    for folder in ("tests", "evals_of_another_kind"):
        suite.standard().write(f"{folder}/test_{folder}.py", "def test_x(record):\n    record('loss', 1, n=1)\n")
    suite.run(*args)
    assert suite.runs == []


def test_a_suite_without_the_ini_key_is_left_alone(suite):
    suite.standard().write("pytest.ini", "[pytest]\n")
    result = suite.run("evals/test_probe.py", plugins=["-p", "trialplate.plugin", "-p", "no:cacheprovider"])
    assert result.ret == 0
    assert suite.runs == []
    assert "pass_all" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*recorded, and neither reported nor judged*"])
    assert sorted(p.name for p in suite.path.iterdir()) == ["evals", "policies", "pytest.ini"]


def test_a_report_that_was_asked_for_is_written_for_any_tests(suite):
    suite.write("pytest.ini", "[pytest]\n")
    suite.write("tests/test_x.py", "def test_x(record):\n    record('loss', 1, n=1)\n")
    assert suite.run("tests", "--trialplate-report=out").ret == 1
    report = read_report(suite.path / "out" / "report.json")
    assert report.reasons == ["subject (no model): no required gate judges it"]


@pytest.mark.parametrize("switch", IDLE)
def test_what_runs_nothing_writes_nothing(suite, switch):
    suite.standard()
    plugins = [] if switch == "--cache-show" else None
    args = ("evals", "-p", "trialplate.plugin", switch) if plugins is not None else ("evals", switch)
    suite.run(*args, **({} if plugins is None else {"plugins": plugins}))
    assert suite.runs == [] or switch == "--setup-plan"  # which runs the protocol of every case


def test_a_collection_is_arranged_as_a_run_would_be(suite):
    suite.standard().write(
        "evals/test_data.py", "import pytest\n@pytest.mark.requires_data('none')\ndef test_d():\n    pass\n"
    )
    suite.path.joinpath("evals/test_gates.py").rename(suite.path / "evals/test_aaa.py")
    result = suite.run("evals", "--collect-only", "-q")
    assert result.outlines[:5] == [
        "evals/test_probe.py::test_a[1]", "evals/test_probe.py::test_a[5]", "evals/test_probe.py::test_b",
        "evals/test_aaa.py::test_gate[-acc]", "evals/test_aaa.py::test_gate[-loss]",
    ]  # fmt: skip
    result.stdout.fnmatch_lines(["*5/6 tests collected (1 deselected)*"])


def test_a_collection_with_a_bad_policy_says_so(suite):
    suite.standard().write("policies/q.toml", "")
    result = suite.run("evals", "--collect-only")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*q.toml holds no gate; a policy without gates would pass everything*"])


def test_fixtures_work_without_a_report_and_gates_do_not(suite):
    suite.standard()
    result = suite.run(".")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*gates judge a report, and this run writes none; give --report DIR*"])
    assert suite.runs == []
