"""Texts that people meet, whole: what was wanted, what was got, where, and what to do next."""

import math

import pytest

from trialplate.gates.policy import PolicyError, parse_policy
from trialplate.report.journal import Journal, JournalError, read_journal
from trialplate.report.recording import Recorder, RecordError
from trialplate.report.store import ReportError, load_run, read_report

POLICY = 'name = "p"\nmodels = ["*"]\n[[gate]]\nname = "g"\nmetric = "accuracy"\n'


def recording(*args, **kwargs):
    return lambda folder: Recorder("probes/test_x.py::test_a", "")(*args, **kwargs)


def policy(text):
    return lambda folder: parse_policy((POLICY + text).encode(), "p.toml")


def locked(folder):
    first = Journal(folder)
    try:
        Journal(folder)
    finally:
        first.close()


MESSAGES = {
    "a NaN": (
        recording("accuracy", math.nan, n=3),
        "accuracy: value is nan; only finite numbers are recorded. Assert the cause first, or leave it unrecorded: a gate then says MISSING",
    ),
    "no n": (recording("accuracy", 0.5), "accuracy: say how many observations it rests on: record(..., n=...)"),
    "out of range": (
        recording("accuracy", 1.5, n=3),
        "accuracy: 1.5 lies outside what it can attain, [0.0, 1.0] fraction; the metric is computed wrongly or has another name",
    ),
    "an unknown metric": (
        recording("tallness", 1.5, n=3),
        "'tallness' is not in the metric catalogue; add it through the hook trialplate_metrics, or record it with unit='...' and "
        "direction='higher', 'lower' or 'none'",
    ),
    "a list for a number": (recording("loss", [1, 2], n=3), "loss: value must be one number, got list '[1, 2]'"),
    "a misspelt field of a gate": (policy("mn = 1"), "p.toml: gate 'g': Object contains unknown field `mn`; did you mean 'min'?"),
    "no bound": (policy(""), "p.toml: gate 'g': has neither min nor max; a gate without a bound passes everything"),
    "an unattainable bound": (policy("min = 2"), "p.toml: gate 'g': min 2 can never be reached: accuracy lies in [0, 1]"),
    "no report": (
        lambda folder: read_report(folder / "report.json"),
        "cannot read {folder}/report.json: No such file or directory; give a folder that `pytest --report DIR` wrote",
    ),
    "no folder": (
        lambda folder: load_run(folder / "x"),
        "{folder}/x is not a folder; give a run folder, such as reports/latest",
    ),
    "no journal": (
        read_journal,
        "{folder} holds no journal.ndjson; give a folder that `pytest --report DIR` wrote",
    ),
    "two writers": (locked, "{folder}/journal.ndjson is being written by another run; wait for it or give another --report"),
}  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize("name", MESSAGES)
def test_message(tmp_path, name):
    call, text = MESSAGES[name]
    with pytest.raises((RecordError, PolicyError, ReportError, JournalError)) as caught:
        call(tmp_path)
    assert str(caught.value) == text.replace("{folder}", str(tmp_path))


USAGE = {
    "--trialplate-device=tpu": r"--device tpu: not present; this machine has .*cpu.*",
    "--trialplate-dtype=int4": r"--dtype int4: not one of float32, float16, bfloat16",
    "--trialplate-model=pythia-07m": r"no model 'pythia-07m'. Looked for an embedded model .*, and a catalogue name \(nearest: .*pythia-70m.*\). A hub id is written org/name, a folder ./name.",
    "--trialplate-policy=no.toml": r"cannot read policy .*no.toml: No such file or directory; give a TOML file of gates",
    "--trialplate-measured=no": r".*/no is not a folder; give a run folder, such as reports/latest",
    "--trialplate-resume=no": r"--resume no: holds no journal.ndjson; give the folder of a run, such as reports/latest",
    "--trialplate-report=there": r"--report there: exists already, and a report is never overwritten. Give another folder, or continue that run with --resume there",
    "--trialplate-limit=0": r"--trialplate-limit 0 \(command line\): wanted a whole number of at least 1",
    "--trialplate-task=ioj": r"--task ioj: no collected case has that task; did you mean 'ioi'\?; known: ioi",
}  # fmt: skip


@pytest.mark.parametrize("option", USAGE)
def test_usage_error(pytester, monkeypatch, option):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (pytester.path / "pytest.ini").write_text("[pytest]\ntrialplate_evals = evals\n")
    (pytester.path / "there").mkdir()
    (pytester.path / "evals").mkdir()
    case = "import pytest\n@pytest.mark.parametrize('task', ['ioi'])\ndef test_a(record, task):\n    pass\n"
    (pytester.path / "evals" / "test_a.py").write_text(case)
    result = pytester.runpytest_inprocess("-p", "trialplate.plugin", "evals", option)
    assert result.ret == 4
    result.stderr.re_match_lines([f"ERROR: {USAGE[option]}$"])
