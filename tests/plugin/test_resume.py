"""`--resume DIR` runs what is missing or did not pass, and ends with the measurements and verdicts of an unbroken run."""

import os
import re

import pytest

from trialplate.report.journal import Journal, read_journal

FIVE = """
import os
import pathlib
import random
import pytest

@pytest.mark.parametrize("k", range(5))
def test_a(record, rng, k):
    pathlib.Path("ran.txt").open("a").write(f"{k} ")
    if k == 3 and os.path.exists("stop"):
        STOP
    record("accuracy", 0.5 + rng.random() / 2, n=100, k=k, samples=[{"item": k, "value": random.random()}])
    record.uses("corpus", "00", 3, seed=k)
"""
POLICY = (
    "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\ncovers.k = [0, 1, 2, 3, 4]\n"
)
OWN_MODEL = """
import os

def trialplate_load_model(name, revision, device, dtype):
    from tokenizers import Tokenizer
    from transformers import GPTNeoXForCausalLM
    folder = "two" if os.path.exists("two/mended") else "one"
    return GPTNeoXForCausalLM.from_pretrained(folder), Tokenizer.from_file(f"{folder}/tokenizer.json")
"""
STOPS = {
    "kill -9": "os.kill(os.getpid(), 9)",
    "Ctrl-C": "raise KeyboardInterrupt",
    "pytest.exit": "pytest.exit('enough', returncode=0)",
    "-x": "assert 0, 'broken'",
    "a failing case": "assert 0, 'broken'",
    "a NaN": "record('accuracy', float('nan'), n=3)",
}


@pytest.fixture
def five(suite):
    suite.standard().write("policies/p.toml", POLICY)
    return suite


def ran(suite):
    """Cases that ran since this was asked last."""
    file = suite.path / "ran.txt"
    found = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def break_off(suite, how="a failing case"):
    """A run that stops in its fourth case. What stopped it is out of the way then; the file of the evals is the same."""
    suite.write("evals/test_probe.py", FIVE.replace("STOP", STOPS[how]))
    suite.write("stop", "")
    args = ["evals", "-x"] if how == "-x" else ["evals"]
    done = suite.run_alone(*args) if how == "kill -9" else suite.run(*args)
    (suite.path / "stop").unlink()
    assert done.ret != 0
    assert not suite.report().pass_all
    return ran(suite)


@pytest.mark.parametrize("how", [how for how in STOPS if how != "a failing case"])  # that one: all the tests below
def test_a_run_that_was_broken_off_ends_as_an_unbroken_one(five, results, how):
    before = break_off(five, how)
    folder, first = five.latest, five.report()
    assert before[:4] == ["0", "1", "2", "3"]
    done = [c.id for c in first.cases if c.outcome == "passed" and not c.gate]
    assert len(done) == len(before) - 1
    assert five.run("evals", "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == ["3", "4"][: 5 - len(done)]
    resumed = five.report()
    assert five.latest == folder
    assert (resumed.run.id, resumed.run.attempts, resumed.run.started_at) == (first.run.id, 2, first.run.started_at)
    samples = (folder / "samples.parquet").read_bytes()
    assert five.run().ret == 0
    assert results(five.report()) == results(resumed)
    assert (five.latest / "samples.parquet").read_bytes() == samples


def test_two_workers_resume_and_end_as_one_process_would(five, results):
    break_off(five)
    assert five.run("evals", "-n", 2, "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == ["3"]
    resumed = five.report()
    assert five.run("evals").ret == 0
    assert results(five.report()) == results(resumed)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_left_to_do_is_judged_again_and_green(five, n):
    five.write("evals/test_probe.py", FIVE)
    assert five.run("evals", "-n", n).ret == 0
    ran(five)
    assert five.run("evals", "-n", n, "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == []
    assert five.report().pass_all
    five.path.joinpath("policies/p.toml").write_text(POLICY.replace("0.5", "0.99"))
    assert five.run("evals", "-n", n, "--trialplate-resume=reports/latest").ret == 1
    assert [v.status for v in five.report().gates] == ["FAIL"]


def test_nothing_left_to_do_without_any_gate_file_is_no_empty_run(five):
    five.write("evals/test_probe.py", FIVE)
    assert five.run("evals/test_probe.py").ret == 0
    assert five.run("evals/test_probe.py", "--trialplate-resume=reports/latest").ret == 0
    assert five.report().pass_all


def test_a_changed_file_runs_again(five):
    break_off(five)
    five.path.joinpath("evals/test_probe.py").open("a").write("\n# changed\n")
    assert five.run("evals", "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == list("01234")
    assert five.report().degraded == ["attempt 2 ran with other code than attempt 1"]


@pytest.mark.parametrize("n", [0, 1])
def test_a_case_that_is_gone_does_not_count_any_more(five, n):
    five.write("evals/test_more.py", "def test_m(record):\n    record('loss', 1, n=1)\ndef test_f():\n    assert 0\n")
    break_off(five)
    five.path.joinpath("evals/test_more.py").unlink()
    assert five.run("evals", "-n", n, "--trialplate-resume=reports/latest").ret == 0
    report = five.report()
    assert {c.id.partition("::")[0] for c in report.cases} == {"test_probe.py", "test_gates.py"}
    assert {m.metric for m in report.measurements} == {"accuracy"}


def test_a_file_that_cannot_be_collected_now_loses_nothing(five):
    break_off(five)
    source = five.path.joinpath("evals/test_probe.py").read_text()
    five.write("evals/test_probe.py", "import nothing_of_that_name\n")
    assert five.run("evals", "--trialplate-resume=reports/latest").ret == 2
    assert len(five.report().measurements) == 4
    five.write("evals/test_probe.py", source)
    assert five.run("evals", "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == ["3"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["evals", "--trialplate-seed=5"], "seed was 0, is 5"),
        (["evals", "--trialplate-limit=5"], "limit was None, is 5"),
        (["evals", "-k", "test_a"], r"selection was \[\], is \[\"-k 'test_a'\"\]"),
        (["evals/test_probe.py"], r"paths was \['evals'\], is \['evals/test_probe.py'\]"),
        (["evals", "--trialplate-dtype=bfloat16"], r"dtype was \[\], is \['bfloat16'\]"),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else "",
)
def test_other_options_are_refused_with_the_command_to_give(five, args, said):
    break_off(five)
    before = five.report()
    result = five.run(*args, "--trialplate-resume=reports/latest")
    assert result.ret == 4
    text = result.stderr.str()
    assert re.search(rf"the run was started with other options \(.*{said}", text)
    assert re.search(r"Give the same ones: pytest .* --resume reports/latest", text)
    assert five.report() == before


def test_the_same_paths_from_another_folder_are_the_same(five, monkeypatch):
    break_off(five)
    monkeypatch.chdir(five.path / "evals")
    assert five.run(".", "--trialplate-resume=../reports/latest").ret == 0


def test_resume_and_report_exclude_each_other(five):
    result = five.run("evals", "--trialplate-resume=reports/latest", "--trialplate-report=out")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--resume continues a run in its own folder; leave --report out*"])


def test_what_is_no_run_cannot_be_resumed(five):
    (five.path / "other").mkdir()
    result = five.run("evals", "--trialplate-resume=other")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--resume other: holds no journal.ndjson; give the folder of a run, such as reports/latest*"]
    )


def test_a_run_that_still_runs_cannot_be_resumed_and_is_left_alone(five):
    break_off(five)
    writer = Journal(five.latest)
    try:
        os.write(writer._fd, b'{"half a')
        before = [p.read_bytes() for p in sorted(five.latest.iterdir())]
        result = five.run("evals", "--trialplate-resume=reports/latest")
        assert result.ret == 4
        assert "is being written by another run" in result.stderr.str()
        assert [p.read_bytes() for p in sorted(five.latest.iterdir())] == before
    finally:
        writer.close()


def test_a_torn_tail_is_trimmed_and_its_case_runs_again(five):
    break_off(five)
    journal = five.latest / "journal.ndjson"
    lines = journal.read_bytes().splitlines(keepends=True)
    torn = next(i for i, line in enumerate(lines) if b"test_a[2]" in line and b'"finished"' in line[:30])
    journal.write_bytes(b"".join(lines[:torn]) + lines[torn][:50])
    assert five.run("evals", "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == ["2", "3", "4"]
    assert not read_journal(five.latest)[1]


def test_a_case_that_failed_and_was_mended_by_its_data_runs_again(five):
    assert break_off(five) == list("01234")
    assert five.run("evals", "--trialplate-resume=reports/latest").ret == 0
    assert ran(five) == ["3"]
    assert {c.outcome for c in five.report().cases} == {"passed"}


def test_a_damaged_journal_is_refused_with_its_line(five):
    break_off(five)
    journal = five.latest / "journal.ndjson"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"?\n", *lines[2:]]))
    result = five.run("evals", "--trialplate-resume=reports/latest")
    assert result.ret == 4
    assert "journal.ndjson:3: not an event of this version of trialplate" in result.stderr.str()


def test_a_model_of_ones_own_with_other_weights_is_noticed_when_it_is_loaded(five, tiny_model):
    tiny_model(five.path / "one")
    tiny_model(five.path / "two", seed=1)
    five.write("conftest.py", OWN_MODEL)
    five.write(
        "evals/test_probe.py",
        "import os\nimport pytest\n@pytest.mark.parametrize('k', [0, 1])\ndef test_a(model, record, k):\n    record('accuracy', 1, n=1, k=k)\n    assert k == 0 or os.path.exists('two/mended')\n",
    )
    five.write("policies/p.toml", POLICY.replace("[0, 1, 2, 3, 4]", "[0, 1]"))
    args = "evals", "--trialplate-model=mine", "--trialplate-device=cpu"
    assert five.run(*args).ret == 1
    five.write("two/mended", "")
    assert five.run(*args, "--trialplate-resume=reports/latest").ret == 1
    (reason,) = five.report().reasons
    assert reason.startswith("error: subject mine|cpu|float32 was not the same model in all cases")
