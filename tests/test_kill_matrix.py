"""A sample of the kill matrix, and the proof that the matrix itself can fail. All of it: `make kill-matrix`."""

from contextlib import nullcontext

import pytest
from tests.kill_matrix import __main__ as command
from tests.kill_matrix.bench import Bench
from tests.kill_matrix.sabotage import Sabotage
from tests.kill_matrix.sabotages import all_sabotages
from tests.kill_matrix.table import page
from tests.kill_matrix.verdicts import Judge, Row, function_of, judging_functions

PATHS = ("evals/checkpoints", "evals/tokenizers", "evals/likelihood/test_numeric_noise.py")
SABOTAGES = {s.name: s for group in all_sabotages().values() for s in group}
NOTHING = Sabotage("nothing", "Nothing is broken.", lambda scene: nullcontext())


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The evals that cost little; building it shows that the run without any fault is green."""
    return Bench(tmp_path_factory.mktemp("bench"), PATHS)


@pytest.fixture(scope="module")
def judge(bench):
    return Judge(bench)


def test_without_any_fault_every_case_passes_and_gates_do_too(bench, judge):
    assert {case.outcome for case in bench.baseline.cases} == {"passed"}
    assert set(judge.bindings) == set(judging_functions(PATHS))
    assert all(judge.bindings.values())  # every one of them has a gate, and Judge would not stand if it did not pass


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("swapped-neurons", "checkpoints/test_keys_against_golden"),
        ("not-causal", "checkpoints/test_causality"),
        ("stale-cache", "likelihood/test_cache_is_honest"),
    ],
)
def test_a_sabotage_is_caught(name, by, judge):
    row = judge.row(SABOTAGES[name])
    assert "gate" in row.caught[by]
    assert not row.refused


def test_a_refused_model_is_the_loaders_merit_alone(judge):
    row = judge.row(SABOTAGES["renamed-key"])
    assert "do not fit the model of its config.json" in row.refused
    assert set(row.caught) == {"checkpoints/test_keys_against_golden"}


def test_afterwards_everything_is_as_before(judge):
    judge.row(SABOTAGES["tied-head"])
    assert not judge.row(NOTHING).is_caught


def test_the_command_fails_when_nothing_is_broken_and_nobody_notices(bench, monkeypatch, capsys):
    monkeypatch.setattr(command, "Bench", lambda folder, paths, subject: bench)
    monkeypatch.setattr(command, "all_sabotages", lambda: {"Nothing": (NOTHING,)})
    assert command.main([]) == 1
    said = capsys.readouterr().err
    assert "NOT CAUGHT: nothing" in said
    assert "CATCHES NOTHING: tokenizers/test_vocabulary" in said


def test_an_eval_that_catches_nothing_fails_the_command(tmp_path, capsys):
    rows = {"Files": [Row(NOTHING, {"probes/test_ioi": "gate ioi: FAIL"})]}
    assert command.conclude(rows, ["probes/test_ioi", "probes/test_idle"], tmp_path / "page.md", complete=True) == 1
    assert "CATCHES NOTHING: probes/test_idle" in capsys.readouterr().err
    assert "evals that catch nothing: probes/idle" in (tmp_path / "page.md").read_text()
    assert command.conclude(rows, ["probes/test_ioi"], None, complete=True) == 0
    assert command.conclude({}, [], None, complete=False) == 1


def test_the_page_names_survivors():
    text = page({"Files": [Row(NOTHING)]}, ["probes/test_ioi"], 10)
    assert "not caught: nothing" in text
    assert "| nothing | Nothing is broken. | **nobody** |" in text


def test_the_matrix_covers_what_was_promised():
    names = [s.name for group in all_sabotages().values() for s in group]
    assert len(names) == len(set(names)) >= 20
    assert all(s.text.endswith(".") for s in SABOTAGES.values())
    assert function_of("probes/test_ioi.py::test_ioi[ioi-ABBA]") == "probes/test_ioi"
    assert not [f for f in judging_functions() if f.startswith(("performance/", "release/"))]


@pytest.fixture(scope="module")
def sites_judge(tmp_path_factory):
    """The evals of sites, which cost little, run under the faults that are about them."""
    return Judge(Bench(tmp_path_factory.mktemp("sites"), ("evals/activations/test_sites.py",)))


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("wrong-tensor", "activations/test_layer_map"),
        ("layer-off-by-one", "activations/test_capture_parity"),
        ("hooks-write", "activations/test_capture_noop"),
    ],
)
def test_a_fault_of_reading_is_caught(name, by, sites_judge):
    assert by in sites_judge.row(SABOTAGES[name]).caught
