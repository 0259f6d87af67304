"""`-m gate --measured DIR` judges what earlier runs measured; what has changed since is stale, what kept them from passing still does."""

import json

import msgspec
import pytest

from trialplate.report.store import encode

CASE = "def test_a(record):\n    record('accuracy', 0.9, n=100, k=1)\n    record('accuracy', 0.9, n=100, k=5)\n    record.uses('corpus', '00', 3)\n"
LOSS = "def test_b(record):\n    record('loss', 2, n=10)\n"
MODEL = "def test_a(model, record):\n    record('accuracy', 0.9, n=100)\n"
FOR_MODEL = "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\n"


@pytest.fixture
def split(suite):
    """Two runs of a suite, each with half of what the policy wants: (suite, options that name both)."""
    suite.standard().write("evals/test_probe.py", CASE)
    suite.write("evals/test_loss.py", LOSS)
    for name in ("probe", "loss"):
        suite.run(f"evals/test_{name}.py", "--trialplate-no-judge", f"--trialplate-report=runs/{name}")
    return suite, ["--trialplate-measured=runs/probe", "--trialplate-measured=runs/loss"]


def judge(suite, *args):
    """Run the gates alone, and give the report and the exit status."""
    done = suite.run("evals", "-m", "gate", *args)
    return suite.report(), int(done.ret)


@pytest.mark.parametrize("n", [0, 1])
def test_measurements_of_two_runs_are_judged_as_one(split, n):
    suite, measured = split
    report, status = judge(suite, *measured, "-n", n)
    assert (report.reasons, status) == ([], 0)
    assert {v.gate: v.status for v in report.gates} == {"acc": "PASS", "loss": "PASS"}
    assert len(report.measurements) == 3
    assert [d.name for d in report.data] == ["corpus"]
    assert report.run.filters == ["-m 'gate'", "the path evals/test_loss.py", "the path evals/test_probe.py"]


def test_half_of_it_is_missing_the_other_half(split):
    suite, measured = split
    report, status = judge(suite, measured[0])
    assert status == 1
    assert {v.gate: v.status for v in report.gates} == {"acc": "PASS", "loss": "MISSING"}


def test_gates_alone_measure_nothing_and_judge_nothing(suite):
    suite.standard()
    report, status = judge(suite)
    assert status == 5
    assert "nothing was measured (selected by -m 'gate')" in report.reasons


def test_a_case_in_two_runs_is_an_error(split):
    suite, measured = split
    suite.run("evals/test_loss.py", "--trialplate-no-judge", "--trialplate-report=runs/again")
    report, status = judge(suite, *measured, "--trialplate-measured=runs/again")
    assert status == 1
    assert report.reasons == ["error: case test_loss.py::test_b is in two of the --measured runs; give one of them"]


def test_a_case_that_also_runs_now_is_an_error(split):
    suite, measured = split
    done = suite.run("evals", *measured)
    assert done.ret == 1
    assert "error: case test_loss.py::test_b finished 2 times in one run" in suite.report().reasons


@pytest.mark.parametrize("n", [0, 1])
def test_what_runs_now_is_judged_together_with_what_was_measured(split, n):
    suite, measured = split
    assert suite.run("evals/test_loss.py", "evals/test_gates.py", measured[0], "-n", n).ret == 0
    assert len(suite.report().measurements) == 3


def test_a_changed_eval_is_stale(split):
    suite, measured = split
    suite.write("evals/test_loss.py", LOSS + "\n# changed\n")
    report, status = judge(suite, *measured)
    assert status == 1
    assert report.reasons == ["gate loss on (no model): STALE: test_loss.py has changed since it measured this"]


def test_an_eval_that_is_gone_is_stale(split):
    suite, measured = split
    (suite.path / "evals/test_loss.py").unlink()
    assert judge(suite, *measured)[0].reasons == [
        "gate loss on (no model): STALE: test_loss.py is gone since it measured this"
    ]


@pytest.mark.parametrize("how", ["other weights", "unreadable", "gone", "the same"])
def test_weights_that_have_changed_are_stale(suite, tiny_model, how):
    suite.standard().write("evals/test_probe.py", MODEL)
    suite.write("policies/p.toml", FOR_MODEL)
    folder = suite.path / "my-model"
    folder.mkdir()
    tiny_model(folder)
    assert (
        suite.run("evals", f"--trialplate-model={folder}", "--trialplate-device=cpu", "--trialplate-report=one").ret
        == 0
    )
    weights = folder / "model.safetensors"
    if how == "other weights":
        tiny_model(folder, seed=1)
    elif how == "unreadable":
        weights.write_bytes(weights.read_bytes()[:100])
    elif how == "gone":
        weights.unlink()
    report, status = judge(suite, "--trialplate-measured=one")
    (verdict,) = report.gates
    said = {"other weights": "has other weights by now", "unreadable": "cannot be read by now"}.get(how)
    assert (verdict.status, status) == (("STALE", 1) if said else ("PASS", 0))
    assert said is None or said in verdict.reason
    assert [s.label for s in report.subjects] == [str(folder)]


def test_what_kept_the_earlier_run_from_passing_is_carried_over(suite):
    suite.standard().write("evals/test_skipped.py", "import pytest\npytest.skip('no time', allow_module_level=True)\n")
    suite.run("evals", "--trialplate-no-judge", "--trialplate-report=one")
    report, status = judge(suite, "--trialplate-measured=one", "--ignore=evals/test_skipped.py")
    assert status == 1
    (reason,) = report.reasons
    assert reason.startswith("error: the --measured run ")
    assert "evals/test_skipped.py was skipped as a whole" in reason


def test_a_run_that_did_not_finish_can_be_judged_and_does_not_pass(split):
    suite, measured = split
    journal = suite.path / "runs/loss/journal.ndjson"
    kept = [line for line in journal.read_bytes().splitlines(keepends=True) if b'"ended"' not in line[:20]]
    journal.write_bytes(b"".join(kept))
    report, status = judge(suite, *measured)
    assert status == 1
    assert {v.status for v in report.gates} == {"PASS"}
    assert report.reasons == [f"error: the --measured run {report.errors[0].split()[3]} the run did not finish"]


def test_failed_cases_of_the_earlier_run_still_count(suite):
    suite.standard().write("evals/test_loss.py", LOSS + "    assert 0\n")
    suite.run("evals", "--trialplate-no-judge", "--trialplate-report=one")
    report, status = judge(suite, "--trialplate-measured=one")
    assert status == 1
    assert "case test_loss.py::test_b: failed: assert 0" in report.reasons


def test_what_was_not_collected_then_is_said_now(suite):
    suite.standard().write("evals/test_probe.py", "import pytest\n@pytest.mark.requires_data('none')\n" + CASE + LOSS)
    suite.run("evals", "--trialplate-no-judge", "--trialplate-report=one")
    report, _ = judge(suite, "--trialplate-measured=one")
    (reason,) = report.reasons
    assert "1 cases of this subject were not collected (needs none in the data folder" in reason


def test_a_run_that_measured_nothing_is_refused(suite):
    suite.standard()
    suite.run("evals", "-k", "nothing", "--trialplate-report=one")
    result = suite.run("evals", "-m", "gate", "--trialplate-measured=one")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--measured */one: holds no measurement; give the folder of a run that measured something*"]
    )


def test_latest_means_the_run_before_this_one(suite):
    suite.standard()
    suite.run("evals", "--trialplate-no-judge")
    first = suite.latest
    for n in (0, 1):
        report, status = judge(
            suite, f"--trialplate-measured={first}" if n else "--trialplate-measured=reports/latest", "-n", n
        )
        assert (status, len(report.measurements)) == (0, 3)


def test_a_report_without_its_journal_that_lost_a_measurement_is_refused(split):
    suite, measured = split
    (suite.path / "runs/probe/journal.ndjson").unlink()
    path = suite.path / "runs/probe/report.json"
    spoilt = json.loads(path.read_text())
    del spoilt["measurements"][0]
    path.write_bytes(msgspec.json.encode(spoilt))
    result = suite.run("evals", "-m", "gate", *measured)
    assert result.ret == 4
    assert "the file was edited or damaged: fold it again from its journal" in result.stderr.str()
    assert encode(suite.report())


def test_a_model_that_came_from_no_file_is_judged_as_it_was_measured(suite, tiny_model):
    suite.standard().write("evals/test_probe.py", MODEL)
    suite.write("policies/p.toml", FOR_MODEL)
    tiny_model(suite.path / "tiny")
    loader = "def trialplate_load_model(name, revision, device, dtype):\n    from tokenizers import Tokenizer\n    from transformers import GPTNeoXForCausalLM\n    return GPTNeoXForCausalLM.from_pretrained('tiny'), Tokenizer.from_file('tiny/tokenizer.json')\n"
    suite.write("conftest.py", loader)
    assert (
        suite.run("evals", "--trialplate-model=./tiny", "--trialplate-device=cpu", "--trialplate-report=one").ret == 0
    )
    suite.write("conftest.py", "")
    tiny_model(suite.path / "tiny", seed=1)
    assert judge(suite, "--trialplate-measured=one")[1] == 0
