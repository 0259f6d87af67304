"""The command line programs: what they print, where they write, and their exit status."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import asa
from trialplate import __version__
from trialplate.cli import asa as asa_program
from trialplate.cli.app import app

SUITE = """
def test_x(record):
    record("accuracy", {value}, n=10, null=("chance", 0.5), samples=[{{"item": "a", "value": 1}}])
"""
POLICY = 'name = "p"\nmodels = ["*"]\n[[gate]]\nname = "acc"\nmetric = "accuracy"\nmin = 0.5\n'


@pytest.fixture
def invoke():
    return lambda *args: CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def run_folder(pytester):
    """run_folder(value): the folder of a run that measured this accuracy."""

    def make(value):
        pytester.makeini("[pytest]\n")
        pytester.makefile(".toml", policy=POLICY)
        pytester.makepyfile(test_suite=SUITE.format(value=value))
        pytester.runpytest_inprocess("--trialplate-report=out", "--trialplate-policy=policy.toml", "-q")
        return pytester.path / "out"

    return make


def test_version_of_both_programs(invoke):
    assert invoke("--version").output == f"trialplate {__version__}\n"
    assert CliRunner().invoke(asa_program.app, ["--version"]).output == f"asa {asa.__version__}\n"
    assert asa.__version__ in CliRunner().invoke(asa_program.app, ["info"]).output


def test_report_prints_a_passing_run_and_exits_0(invoke, run_folder):
    done = invoke("report", run_folder(0.9))
    assert done.exit_code == 0
    assert "pass_all: yes" in done.output
    assert "0.5 (chance)" in done.output


def test_report_of_a_failing_run_exits_1_and_says_why(invoke, run_folder):
    done = invoke("report", run_folder(0.1))
    assert done.exit_code == 1
    assert "FAIL: 0.1 does not keep value >= 0.5" in done.output


def test_report_as_json_is_the_report(invoke, run_folder):
    folder = run_folder(0.9)
    assert json.loads(invoke("report", folder, "--json").output) == json.loads((folder / "report.json").read_text())


def test_report_of_no_run_says_what_to_give(invoke, tmp_path):
    done = invoke("report", tmp_path / "absent")
    assert done.exit_code == 2
    assert "give a run folder" in done.output


def test_report_of_an_edited_file_is_refused(invoke, run_folder):
    folder = run_folder(0.1)
    (folder / "journal.ndjson").unlink()
    path = folder / "report.json"
    path.write_text(path.read_text().replace('"pass_all": false', '"pass_all": true'))
    done = invoke("report", folder)
    assert done.exit_code == 2
    assert "the file was edited or damaged" in done.output


def test_metrics_page_is_the_one_in_docs(invoke):
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert invoke("metrics").output == page.read_text(encoding="utf-8"), "run: trialplate metrics > docs/metrics.md"


def test_schema_is_the_one_in_docs(invoke):
    page = Path(__file__).parents[2] / "docs" / "report-schema.json"
    assert json.loads(invoke("schema").output) == json.loads(page.read_text(encoding="utf-8")), "run: make schema"


def test_models_lists_embedded_and_catalogue_names(invoke):
    lines = invoke("models").output.splitlines()
    assert lines[0].startswith("embedded:neox-tiny")
    assert any(line.split() == ["pythia-70m-deduped", "EleutherAI/pythia-70m-deduped"] for line in lines)


def test_train_refuses_a_folder_that_holds_something(invoke, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    done = invoke("embedded", "train", "--outdir", tmp_path)
    assert done.exit_code == 2
    assert "not empty" in done.output
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_train_says_where_it_wrote_what(invoke, tmp_path, monkeypatch):
    from trialplate.models import embedded_training

    def build(outdir, *, seed, device, progress):
        progress(1, 2, f"seed {seed} on {device}")

    monkeypatch.setattr(embedded_training, "build", build, raising=False)
    done = invoke("embedded", "train", "--outdir", tmp_path / "new", "--seed", 3)
    assert done.exit_code == 0
    assert "1/2 seed 3 on cpu" in done.output
    assert str(tmp_path / "new") in done.output.replace("\n", "")


def test_train_refuses_a_device_that_is_not_there_before_it_begins(invoke, tmp_path):
    done = invoke("embedded", "train", "--outdir", tmp_path / "new", "--device", "tpu")
    assert done.exit_code == 2
    assert "wanted cpu, cuda, cuda:N or mps" in done.output.replace("\n", " ")
    assert not (tmp_path / "new").exists()
