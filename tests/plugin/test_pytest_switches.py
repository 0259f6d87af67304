"""Switches of pytest that take things away from under a plugin."""

import pytest

PLAIN = ("-p", "trialplate.plugin")
POLICY = "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.95\n"


@pytest.mark.parametrize(
    "args",
    [
        ["-p", "no:terminal"], ["-p", "no:cacheprovider"], ["-p", "no:capture"], ["-p", "no:junitxml"], ["-p", "no:logging"], ["-s"], ["-q"],
        ["-W", "error"], ["--strict-markers", "--strict-config"], ["-v", "--tb=no"], ["--no-summary"], ["-p", "no:unraisableexception"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_verdict_is_the_same(suite, args):
    suite.standard()
    assert suite.run("evals", plugins=[*PLAIN, *args]).ret == 0
    assert suite.report().pass_all


def test_warnings_as_errors_in_a_process_of_its_own(suite, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    suite.standard()
    assert suite.run_alone("evals", "-W", "error").ret == 0


def test_last_failed_runs_less_and_says_so(suite):
    suite.standard().write(
        "evals/test_fails.py",
        "import os\ndef test_f(record):\n    record('perplexity', 1, n=1)\n    assert os.path.exists('mended')\n",
    )
    assert suite.run("evals", plugins=PLAIN).ret == 1
    suite.write("mended", "")
    assert suite.run("evals", "--lf", plugins=PLAIN).ret == 1
    report = suite.report()
    assert [c.id for c in report.cases] == ["test_fails.py::test_f"]
    assert report.run.filters == ["--last-failed"]
    assert all("MISSING" in r and "deselected by --last-failed" in r for r in report.reasons)


def test_maxfail_is_red_with_what_did_not_run(suite):
    suite.standard().write(
        "evals/test_aa.py", "import pytest\n@pytest.mark.parametrize('i', range(5))\ndef test_f(i):\n    assert 0\n"
    )
    assert suite.run("evals", "--maxfail=2", plugins=PLAIN).ret == 1
    outcomes = [c.outcome for c in suite.report().cases if not c.gate]
    assert outcomes.count("failed") == 2
    assert outcomes.count("not run") == 6


def test_blocking_the_plugin_is_possible(suite):
    suite.write(
        "tests/test_x.py",
        "def test_x(pytestconfig):\n    assert not pytestconfig.pluginmanager.hasplugin('trialplate')\n",
    )
    assert suite.run("tests", "-p", "no:trialplate", plugins=[]).ret == 0


def test_failed_first_does_not_bring_gates_to_the_front(suite):
    suite.standard().write("policies/p.toml", POLICY)
    assert suite.run("evals", plugins=PLAIN).ret == 1
    suite.write("policies/p.toml", POLICY.replace("0.95", "0.5"))
    assert suite.run("evals", "--ff", plugins=PLAIN).ret == 0
    assert suite.report().pass_all


@pytest.mark.parametrize("when", ["tryfirst", "trylast"])
def test_nobody_makes_status_0_of_a_run_that_does_not_pass(suite, when):
    """A common line in a conftest: no tests is no failure."""
    suite.standard().write("policies/p.toml", POLICY)
    lenient = f"import pytest\n@pytest.hookimpl({when}=True)\ndef pytest_sessionfinish(session):\n    session.exitstatus = 0\n"
    suite.write("conftest.py", lenient)
    assert suite.run("evals", plugins=PLAIN).ret == 1
    assert suite.run("evals", "-k", "nothing", plugins=PLAIN).ret == 1
