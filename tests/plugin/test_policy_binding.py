"""Policies bind to subjects by glob or by name; once a subject is measured its whole policy is judged, whatever was left out."""

import pytest

GREEN = """
def test_a(subject, record):
    record("accuracy", 0.9, n=100, task="a")

def test_b(subject, record):
    record("loss", 2.0, n=10)
"""
FOR_TINY = """
name = "tiny"
models = ["tiny-*"]
[[gate]]
name = "acc"
metric = "accuracy"
min = 0.5
[[gate]]
name = "loss"
metric = "loss"
max = 4
"""
LOADER = """
def trialplate_load_model(name, revision, device, dtype):
    raise AssertionError("no case of this suite needs the model itself")
"""


@pytest.fixture
def models(suite):
    """A suite whose cases are measured on any model name, and a policy for models named tiny-something."""
    suite.standard()
    suite.write("evals/test_probe.py", GREEN)
    suite.write("policies/p.toml", FOR_TINY)
    suite.write("conftest.py", LOADER)
    return suite


def verdicts(report):
    return {(v.gate, v.subject.partition("|")[0]): v.status for v in report.gates}


def test_policy_binds_by_glob_to_the_subjects_it_names(models):
    assert models.run("evals", "--trialplate-model=tiny-a", "--trialplate-device=cpu").ret == 0
    report = models.report()
    assert verdicts(report) == {("acc", "tiny-a"): "PASS", ("loss", "tiny-a"): "PASS"}
    (policy,) = report.policies
    assert (policy.name, policy.n_gates, policy.subjects) == ("tiny", 2, ["tiny-a|cpu|float32"])


def test_a_subject_without_a_policy_is_red(models):
    result = models.run("evals", "--trialplate-model=tiny-a", "--trialplate-model=other", "--trialplate-device=cpu")
    assert result.ret == 1
    report = models.report()
    assert "subject other|cpu|float32: no required gate judges it" in report.reasons
    result.stdout.fnmatch_lines(
        [
            "*no policy judges other|cpu|float32; add its name to `models` of a policy, give --policy FILE, or measure only with --no-judge*"
        ]
    )


def test_another_revision_is_another_subject(models):
    models.write("policies/p.toml", FOR_TINY.replace("tiny-*", "tiny-a"))
    assert (
        models.run("evals", "--trialplate-model=tiny-a", "--trialplate-revision=step1", "--trialplate-device=cpu").ret
        == 1
    )
    assert "subject tiny-a@step1|cpu|float32: no required gate judges it" in models.report().reasons


def test_policy_that_was_named_judges_every_subject(models):
    args = "--trialplate-policy=policies/p.toml", "--trialplate-model=other", "--trialplate-device=cpu"
    assert models.run("evals", *args).ret == 0
    assert verdicts(models.report()) == {("acc", "other"): "PASS", ("loss", "other"): "PASS"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-k", "test_a or gate"], "deselected by -k 'test_a or gate'"),
        (["-m", "not slow"], "deselected by -m 'not slow'"),
        (["--deselect", "evals/test_probe.py::test_b"], "deselected by --deselect evals/test_probe.py::test_b"),
    ],
    ids=["-k", "-m", "--deselect"],
)  # fmt: skip
def test_the_whole_policy_is_judged_whatever_was_deselected(suite, args, said):
    suite.standard()
    suite.write(
        "evals/test_probe.py",
        suite.path.joinpath("evals/test_probe.py").read_text().replace("def test_b", "@pytest.mark.slow\ndef test_b"),
    )
    assert suite.run("evals", *args).ret == 1
    report = suite.report()
    assert report.reasons == [f"gate loss on (no model): MISSING: no measurement of loss; {said}"]
    assert report.run.filters == [said.removeprefix("deselected by ")]


@pytest.mark.parametrize("args", [["evals/test_probe.py::test_a"], ["evals/one"]], ids=["node id", "folder"])
def test_the_whole_policy_is_judged_when_a_path_is_left_out(suite, args):
    suite.standard()
    suite.write(
        "evals/one/test_one.py",
        "def test_a(record):\n    record('accuracy', 0.9, n=9, k=1)\n    record('accuracy', 0.9, n=9, k=5)\n",
    )
    assert suite.run(*args).ret == 1
    report = suite.report()
    assert report.reasons == [
        f"gate loss on (no model): MISSING: no measurement of loss; deselected by the path {args[0]}"
    ]
    assert {v.gate: v.status for v in report.gates} == {"acc": "PASS", "loss": "MISSING"}


def test_two_folders_of_evals_and_one_named_is_a_path_left_out(suite):
    suite.standard().write("pytest.ini", "[pytest]\ntrialplate_evals =\n  evals\n  more\n")
    suite.write("more/test_more.py", "def test_more(record):\n    record('loss', 1, n=1)\n")
    suite.run("evals", "--trialplate-no-judge")
    assert suite.report().run.filters == ["the path evals"]
    suite.run(".", "more", "--trialplate-no-judge")
    assert suite.report().run.filters == []


def test_the_limit_makes_gates_thin(suite):
    suite.standard()
    suite.write("evals/test_probe.py", "def test_a(record, limit):\n    record('accuracy', 0.9, n=limit(100))\n")
    suite.write(
        "policies/p.toml",
        "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\nmin_n = 50\n",
    )
    assert suite.run().ret == 0
    assert suite.run("evals", "--trialplate-limit=20").ret == 1
    assert suite.report().reasons == [
        "gate acc on (no model): THIN: n=20, the gate wants at least 50; cut by --limit 20"
    ]


def test_a_model_whose_cases_were_all_deselected_takes_no_part(models):
    """`-k` chose one of two models: the other is neither judged nor a reason, and what there is stands."""
    args = "--trialplate-model=tiny-a", "--trialplate-model=tiny-b", "--trialplate-device=cpu"
    assert models.run("evals", *args, "-k", "tiny-a").ret == 0
    report = models.report()
    assert set(verdicts(report)) == {("acc", "tiny-a"), ("loss", "tiny-a")}
    assert report.run.subjects == ["tiny-a|cpu|float32"]


def test_a_model_whose_cases_do_not_apply_is_judged_all_the_same(models):
    models.write(
        "evals/test_probe.py",
        "import pytest\n" + GREEN.replace("def test_", "@pytest.mark.requires_data('none.txt')\ndef test_", 1),
    )
    assert models.run("evals", "--trialplate-model=tiny-a", "--trialplate-device=cpu", "-k", "test_a or gate").ret == 5
    assert models.run("evals", "--trialplate-model=tiny-a", "--trialplate-device=cpu").ret == 1
    assert "MISSING" in verdicts(models.report()).values()
    (reason,) = models.report().reasons
    assert "not collected (needs none.txt in the data folder" in reason


def test_gates_of_one_name_in_two_policies_are_two_cases(suite):
    suite.standard().write(
        "policies/q.toml", "name = 'q'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.95\n"
    )
    assert suite.run().ret == 1
    report = suite.report()
    assert [c.id for c in report.cases if c.gate] == [
        "test_gates.py::test_gate[-loss]", "test_gates.py::test_gate[-p-acc]", "test_gates.py::test_gate[-q-acc]",
    ]  # fmt: skip
    assert {c.id[-7:]: c.outcome for c in report.cases if "acc" in c.id} == {"-p-acc]": "passed", "-q-acc]": "failed"}


def test_a_gate_that_is_not_required_never_fails_the_run(suite):
    policy = suite.standard().path.joinpath("policies/p.toml")
    policy.write_text(
        policy.read_text() + '[[gate]]\nname = "hard"\nmetric = "accuracy"\nmin = 0.99\nrequired = false\n'
    )
    assert suite.run().ret == 0
    report = suite.report()
    assert report.pass_all
    assert {v.gate: v.status for v in report.gates} == {"acc": "PASS", "loss": "PASS", "hard": "FAIL"}


def test_gates_come_last_and_all_of_them_are_cases(suite):
    suite.standard().path.joinpath("evals/test_gates.py").rename(suite.path / "evals/test_aaa.py")
    result = suite.run("evals", "-v")
    lines = [line for line in result.outlines if "PASSED" in line]
    assert len(lines) == 5
    assert all("test_aaa" in line for line in lines[3:])
