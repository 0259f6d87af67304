"""A report stands from the first moment, and it is red: `latest` never shows an older green run as if it were this one."""

import pytest

from trialplate.plugin import devices


@pytest.fixture
def green(suite):
    """A suite whose last run passed."""
    suite.standard()
    assert suite.run().ret == 0
    assert suite.report().pass_all
    return suite


def latest(suite):
    report = suite.report()
    assert len(suite.runs) == 2
    assert not report.pass_all
    return report


def test_while_a_run_runs_its_report_says_that_it_did_not_finish(green):
    look = "import pathlib\ndef test_c():\n    print('SEEN', pathlib.Path('reports/latest/report.json').read_text())\n"
    green.write("evals/test_probe.py", look)
    green.run("evals", "-s").stdout.fnmatch_lines(["*SEEN {", ' "pass_all": false,', '  "the run did not finish",*'])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--trialplate-device=cuda:7"], "--device cuda:7: not present; this machine has "),
        (["--trialplate-dtype=float8"], "--dtype float8: not one of float32, float16, bfloat16"),
        (["--trialplate-model=no-such-model"], "no model 'no-such-model'"),
        (["--trialplate-model="], "the name of a model is empty"),
        (["--trialplate-model=embedded:neox-tiny", "--trialplate-adapter=none"], "no adapter at none"),
        (["--trialplate-policy=none.toml"], "cannot read policy "),
        (["--trialplate-policy=policies/../evals"], "holds no policy"),
        (["--trialplate-measured=none"], "none is not a folder; give a run folder"),
        (["--trialplate-limit=0"], "--trialplate-limit 0 (command line): wanted a whole number of at least 1"),
        (["--trialplate-threads=-1"], "--trialplate-threads -1 (command line): wanted a whole number of at least 1"),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else "",
)  # fmt: skip
def test_a_usage_error_that_reaches_configure_is_named(green, args, said):
    result = green.run("evals", *args)
    assert result.ret == 4
    assert said in result.stderr.str()
    report = latest(green)
    assert report.reasons[0] == "the run did not finish"
    assert report.errors[0].startswith("usage error: ")
    assert said in report.errors[0]


def test_a_refused_policy_is_named(green):
    green.write("policies/q.toml", "name = 'q'\nmodels = ['*']\n[[gate]]\nname = 'x'\nmetric = 'accuracy'\nmin = nan\n")
    assert green.run().ret == 4
    assert latest(green).errors == [
        f"usage error: {green.path}/policies/q.toml: gate 'x': min is nan; give a finite number"
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["evals/none.py"], "usage error: file or directory not found: evals/none.py"),
        (["evals", "--trialplate-task=aa"], "usage error: --task aa: no collected case has that task; did you mean 'a'?; known: a, b"),
    ],
    ids=["path", "task"],
)  # fmt: skip
def test_a_usage_error_that_only_collecting_finds_is_named(green, args, said):
    green.write(
        "evals/test_probe.py",
        "import pytest\n@pytest.mark.parametrize('task', ['a', 'b'])\ndef test_a(record, task):\n    pass\n",
    )
    assert green.run(*args).ret == 4
    report = latest(green)
    assert said in report.errors
    assert "pytest ended with a usage error (status 4)" in report.reasons


@pytest.mark.parametrize("args", [["-k", "nothing"], ["-m", "slow"]], ids=" ".join)
def test_nothing_selected_is_exit_5_and_red(green, args):
    assert green.run("evals", *args).ret == 5
    report = latest(green)
    assert report.reasons == [
        "no case was selected (status 5)",
        f"nothing was measured (selected by {args[0]} {args[1]!r})",
    ]


def test_minus_m_gpu_without_a_gpu_says_why(green, monkeypatch):
    monkeypatch.setattr(devices, "detect", lambda: {"cpu": "cpu"})
    assert green.run("evals", "-m", "gpu").ret == 5
    (error,) = latest(green).errors
    assert error.startswith("-m gpu: no GPU is present (devices: cpu")


def test_a_file_that_cannot_be_collected_is_named(green):
    green.write("evals/test_broken.py", "import nothing_of_that_name\n")
    assert green.run().ret == 2
    assert any(
        "evals/test_broken.py could not be collected" in e and "nothing_of_that_name" in e for e in latest(green).errors
    )


def test_a_file_that_cannot_be_collected_stays_red_when_the_others_run(green):
    green.write("evals/test_broken.py", "assert False, 'broken'\n")
    assert green.run("evals", "--continue-on-collection-errors").ret == 1
    report = latest(green)
    assert {v.status for v in report.gates} == {"PASS"}
    assert [r.partition(" could")[0] for r in report.reasons] == ["error: evals/test_broken.py"]


@pytest.mark.parametrize("n", [0, 1])
def test_a_file_that_skips_itself_is_an_absence(green, n):
    green.write("evals/test_skipped.py", "import pytest\npytest.importorskip('nothing_of_that_name')\n")
    assert green.run("evals", "-n", n).ret == 1
    (reason,) = latest(green).reasons
    assert reason.startswith("error: evals/test_skipped.py was skipped as a whole, with every case in it: ")
    assert "nothing_of_that_name" in reason


def test_a_folder_that_exists_is_never_overwritten(green):
    folder = green.latest
    result = green.run("evals", f"--trialplate-report={folder}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [f"*--report {folder}: exists already, and a report is never overwritten. Give another folder, or*"]
    )
    assert green.report(folder).pass_all


def test_a_report_goes_where_it_was_asked_for_and_latest_beside_it(green):
    assert green.run("evals", "--trialplate-report=out/one").ret == 0
    assert (green.path / "out" / "latest").resolve() == green.path / "out" / "one"
    assert green.report(green.path / "out" / "one").pass_all


def test_a_wrong_type_in_the_ini_file_names_the_key(green):
    green.write("pytest.ini", "[pytest]\ntrialplate_evals = evals\ntrialplate_seed = many\n")
    result = green.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*ini trialplate_seed must be a whole number, got 'many'*"])
    assert len(green.runs) == 1  # nothing was begun
