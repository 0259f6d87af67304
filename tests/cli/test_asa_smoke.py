"""`asa smoke`: what it checks, that each check can fail, and what it writes."""

import json
import runpy
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn.functional import pad
from typer.testing import CliRunner

from trialplate.cli import asa_smoke
from trialplate.cli.asa import app

CPU = torch.device("cpu")


def invoke(*args):
    return CliRunner().invoke(app, ["smoke", *map(str, args)])


@pytest.mark.parametrize("seed", range(3))
def test_all_checks_hold(seed):
    found = asa_smoke.checks(CPU, seed)
    assert len(found) == 9
    assert [check for check in found if not check.passed] == []


def test_it_prints_a_table_and_exits_0_in_under_ten_seconds():
    start = time.perf_counter()
    done = invoke("--seed", 1)
    assert done.exit_code == 0
    assert done.output.count("ok  ") == 9
    assert time.perf_counter() - start < 10


def test_it_leaves_the_generators_as_they_were():
    before = torch.get_rng_state()
    asa_smoke.checks(CPU, 0)
    assert torch.equal(torch.get_rng_state(), before)


def broken_model(break_it):
    """fresh_model whose result is broken by a function."""
    from asa.train import fresh_model

    def make(cfg, seed):
        model = fresh_model(cfg, seed)
        break_it(model)
        return model

    return make


@pytest.mark.parametrize(
    ("break_it", "caught"),
    [
        (lambda model: model.register_forward_hook(lambda m, a, out: out * float("nan")), "logits are finite"),
        (
            lambda model: model.register_forward_hook(lambda m, a, out: pad(out, (0, 1))),
            "logits are [batch, time, vocabulary]",
        ),
        (lambda model: model.register_forward_hook(lambda m, a, out: out * 50), "loss is near that of a guess, log V"),
        (
            lambda model: model.register_parameter("unused", torch.nn.Parameter(torch.ones(3))),
            "every parameter has a gradient",
        ),
    ],
)
def test_each_check_can_fail(monkeypatch, break_it, caught):
    monkeypatch.setattr("asa.train.fresh_model", broken_model(break_it))
    assert caught in [check.name for check in asa_smoke.checks(CPU, 0) if not check.passed]


def test_a_model_without_a_step_fails(monkeypatch):
    monkeypatch.setattr("asa.train.update", lambda *args: (1.0, True))
    done = invoke()
    assert done.exit_code == 1
    assert "FAIL  every parameter moved" in done.output


def test_the_file_it_writes(tmp_path):
    assert invoke("--outdir", tmp_path / "new").exit_code == 0
    document = json.loads((tmp_path / "new" / "smoke.json").read_text())
    assert document["passed"] is True
    assert {check["passed"] for check in document["checks"]} == {True}
    again = invoke("--outdir", tmp_path / "new")
    assert again.exit_code == 2
    assert "name another --outdir" in again.output


def test_an_absent_device():
    done = invoke("--device", "tpu")
    assert done.exit_code == 2
    assert "wanted cpu, cuda, cuda:N or mps" in done.output


@pytest.mark.parametrize(
    ("name", "command"), [("smoke", "smoke"), ("train_mini", "train-mini"), ("probe_paris_margin", "probe")]
)
def test_the_scripts_of_the_earlier_names(monkeypatch, capsys, name, command):
    script = Path(__file__).parents[2] / "scripts" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert command in capsys.readouterr().out
