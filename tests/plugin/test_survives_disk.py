"""A full or read-only disk: an error before anything runs, or a run that stops and is red; never a green report, never status 0."""

import errno
import json
import os

import pytest

FULL = """
import errno, os, sys
import pytest
import trialplate.report.journal as journal
import trialplate.report.files as files

class Full:
    '''The os module on a disk with room for `left` more writes.'''
    def __init__(self, left):
        self.left = left
    def __getattr__(self, name):
        return getattr(os, name)
    def write(self, fd, data):
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        return os.write(fd, data)

@pytest.fixture
def full(monkeypatch):
    def fill(module, left=0):
        module.os = Full(left)
    yield fill

def pytest_unconfigure():
    journal.os = files.os = os
"""
FILLS = """
import pytest
from conftest import journal, files

@pytest.mark.parametrize("k", range(6))
def test_a(record, full, k):
    record("accuracy", 0.9, n=9, k=k)
    if k == 2:
        full(MODULE, LEFT)
"""
POLICY = "name = 'p'\nmodels = ['*']\n[[gate]]\nname = 'acc'\nmetric = 'accuracy'\nmin = 0.5\n"


def failing(monkeypatch, name, number, match=""):
    """Let os functions fail for paths in a folder of reports."""
    real = getattr(os, name)

    def fail(path, *args, **kwargs):
        if match in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, name, fail)


@pytest.fixture
def filling(suite):
    """filling(module, left): a suite that fills the disk for a module of ours in its third case."""

    def make(module, left=0):
        suite.standard().write("policies/p.toml", POLICY)
        suite.write("conftest.py", FULL)
        suite.write("evals/test_probe.py", FILLS.replace("MODULE", module).replace("LEFT", str(left)))
        return suite

    return make


@pytest.mark.parametrize(
    ("step", "match"),
    [
        ("mkdir", "reports"),
        ("open", "journal.ndjson"),
        ("open", "report.json"),
        ("symlink", ""),
        ("replace", ""),
        ("fsync", ""),
    ],
)
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_target_that_cannot_be_written_is_an_error_before_any_case_runs(suite, monkeypatch, step, match, number):
    suite.standard().write("evals/test_probe.py", "def test_a(record):\n    open('ran', 'w')\n")
    failing(monkeypatch, step, number, match)
    result = suite.run()
    monkeypatch.undo()
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*ERROR: --report */reports/*: cannot be *{os.strerror(number)}*; nothing was run"])
    assert not (suite.path / "ran").exists()


def test_a_disk_that_fills_up_mid_run_stops_the_run_and_keeps_what_it_has(filling):
    suite = filling("journal", 1)  # the third case is written, the fourth is not
    result = suite.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*the journal in * could not be written: No space left on device*", "pass_all: no*"])
    report = json.loads((suite.latest / "report.json").read_text())
    assert (
        f"error: the journal in {suite.latest.name} could not be written: No space left on device" in report["reasons"]
    )
    assert [c["outcome"] for c in report["cases"]] == ["passed"] * 4 + ["not run"] * 3
    assert len(report["measurements"]) == 4
    folded = __import__("trialplate.report.store", fromlist=["load_run"]).load_run(suite.latest)
    assert folded.run.state == "started"
    assert len(folded.measurements) == 3


def test_a_run_whose_disk_filled_up_can_be_resumed(filling):
    suite = filling("journal", 1)
    suite.run()
    suite.write("evals/test_probe.py", FILLS.replace("full(MODULE, LEFT)", "pass"))
    assert suite.run("evals", "--trialplate-resume=reports/latest").ret == 0
    assert len(suite.report().measurements) == 6


def test_the_controller_of_workers_stops_them_when_the_disk_is_full(filling):
    suite = filling("journal")
    hook = "\ndef pytest_xdist_node_collection_finished():\n    journal.os = Full(3)\n"
    suite.write("conftest.py", FULL + hook)
    suite.write(
        "evals/test_probe.py",
        "import time\nimport pytest\n@pytest.mark.parametrize('k', range(60))\ndef test_a(record, k):\n    time.sleep(0.02)\n    record('accuracy', 0.9, n=9, k=k)\n",
    )
    result = suite.run("evals", "-n", 1)
    assert result.ret == 2
    report = json.loads((suite.latest / "report.json").read_text())
    assert any("could not be written: No space left on device" in r for r in report["reasons"])
    assert sum(c["outcome"] == "not run" for c in report["cases"]) > 20


@pytest.mark.parametrize("args", [[], ["--trialplate-no-judge"]], ids=["judged", "no judge"])
def test_a_report_that_cannot_be_written_at_the_end_is_never_status_0(filling, args):
    suite = filling("files")
    result = suite.run("evals", *args)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            f"*the report could not be written: No space left on device; what was measured is in {suite.latest.name}/journal.ndjson",
            "pass_all: no*",
        ]
    )
    placeholder = json.loads((suite.latest / "report.json").read_text())
    assert placeholder["pass_all"] is False
    assert placeholder["reasons"][0] == "the run did not finish"
    assert sorted(p.name for p in suite.latest.iterdir()) == ["journal.ndjson", "report.json"]


def test_a_journal_that_somebody_removed_is_red(suite):
    suite.standard().write(
        "evals/test_probe.py",
        "import pathlib\ndef test_a(record):\n    record('loss', 1, n=1)\n    next(pathlib.Path('reports').glob('*/journal.ndjson')).unlink()\n",
    )
    result = suite.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*holds no journal.ndjson*", "pass_all: no*"])
    assert json.loads((suite.latest / "report.json").read_text())["pass_all"] is False


def test_a_folder_named_latest_is_not_ours_to_replace(suite):
    suite.standard()
    (suite.path / "reports" / "latest").mkdir(parents=True)
    result = suite.run()
    assert result.ret == 4
    assert "latest is not a link of ours; move it away" in result.stderr.str()


def test_a_disk_that_is_full_before_the_first_case_runs_none(filling):
    suite = filling("journal")
    suite.write("conftest.py", FULL + "\ndef pytest_collection_modifyitems():\n    journal.os = Full(0)\n")
    suite.write("evals/test_probe.py", "def test_a():\n    open('ran', 'w')\n")
    result = suite.run()
    assert result.ret == 2
    assert not (suite.path / "ran").exists()
    result.stdout.fnmatch_lines(["*Interrupted: the journal in * could not be written: No space left on device*"])


def test_a_journal_that_cannot_be_synced_at_the_end_is_never_status_0(filling):
    suite = filling("journal")
    broken = "\nclass Unsynced(Full):\n    def fsync(self, fd):\n        raise OSError(errno.EIO, os.strerror(errno.EIO))\n\ndef pytest_collection_modifyitems():\n    journal.os = Unsynced(10**6)\n"
    suite.write("conftest.py", FULL + broken)
    suite.write("evals/test_probe.py", "def test_a(record):\n    record('accuracy', 1, n=1)\n")
    result = suite.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*could not be written: Input/output error*", "pass_all: no*"])
