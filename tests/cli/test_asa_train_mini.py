"""`asa train-mini` from the command line: what it writes, what it refuses, how it stops and goes on."""

import csv
import json
import os
import signal

import pytest
import torch
from typer.testing import CliRunner

from trialplate.cli.asa import app

TINY = """
[model]
embed_dim = 16
num_layers = 1
num_heads = 2
num_slots = 4
slotspace_dim = 4
write_chunk_size = 8

[train]
seq_len = 16
batch_size = 4
total_steps = 6
log_interval = 2
eval_interval = 3
checkpoint_interval = 2

[data]
tokenizer = "bytes"
"""


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """invoke(option, ...) of `asa train-mini` in a folder with a small text and a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "text.txt").write_text("\n\n".join(f"Number {i} is followed by number {i + 1}." for i in range(60)))
    return lambda *args: CliRunner().invoke(app, ["train-mini", *map(str, args)])


def usual(*more):
    return ("--config", "tiny.toml", "--data", "text.txt", *more)


def model_of(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]


def test_a_run_from_a_text_file(invoke, tmp_path):
    done = invoke(*usual("--outdir", "run", "--seed", 5))
    assert done.exit_code == 0, done.output
    assert "done: 6 steps, best validation loss" in done.output
    folder = tmp_path / "run"
    assert (folder / "loss_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert [row["step"] for row in csv.DictReader((folder / "metrics.csv").open())] == ["2", "3", "4", "6"]
    sums = json.loads((folder / "dataset_checksums.json").read_text())
    assert sums["documents"]["source"] == "text.txt"
    assert sums["tokenizer"]["name"] == "bytes"
    cfg = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["cfg"]
    assert (cfg["vocab_size"], cfg["num_slots"], cfg["seed"], cfg["tokenizer_name"]) == (257, 4, 5, "bytes")


def test_the_resolved_configuration_makes_the_same_run(invoke, tmp_path):
    assert invoke(*usual("--outdir", "one", "--set", "learning_rate=5e-3")).exit_code == 0
    assert invoke("--config", "one/config.toml", "--outdir", "two").exit_code == 0
    one, two = model_of(tmp_path / "one"), model_of(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_on_a_terminal_there_is_a_bar_and_validations_stay(invoke, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = invoke(*usual("--outdir", "run"))
    assert done.exit_code == 0, done.output
    assert "6/6" in done.output
    assert done.output.count("validation ") >= 2


def test_a_run_goes_under_runs_by_default(invoke, tmp_path):
    assert invoke(*usual("--steps", 1)).exit_code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("train-mini-")


def test_a_dry_run_writes_nothing(invoke, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    done = invoke(*usual("--dry-run", "--epochs", 3, "--grad-accum", 2))
    assert done.exit_code == 0, done.output
    assert sorted(tmp_path.rglob("*")) == before
    assert "grad_accum_steps = 2" in done.output
    assert "3.0" in next(line for line in done.output.splitlines() if line.startswith("steps:"))
    assert "dry run: nothing was written" in done.output


def test_the_default_is_300_steps_of_the_corpus(invoke):
    done = invoke("--dry-run", "--set", "corpus_documents=500")
    assert done.exit_code == 0, done.output
    assert "steps:      300 of 32 x 128 tokens" in done.output
    assert "tokenizer embedded:neox-tiny (1,931 tokens)" in done.output


def test_epochs_are_counted_in_rows(invoke, tmp_path):
    assert invoke(*usual("--epochs", 0.5, "--outdir", "run", "--set", "warmup_steps=1")).exit_code == 0
    last = json.loads((tmp_path / "run" / "metrics.ndjson").read_text().splitlines()[-1])
    assert last["epoch"] == pytest.approx(0.5, abs=0.05)


def test_a_stopped_run_goes_on_to_the_same_weights(invoke, tmp_path, monkeypatch):
    """Termination after step 3, in which neither a checkpoint nor the end was due."""
    assert invoke(*usual("--outdir", "whole")).exit_code == 0
    from asa.training import loop

    step = loop._Run._step

    def signalled(run):
        norm = step(run)
        if run.parts.counters.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return norm

    monkeypatch.setattr(loop._Run, "_step", signalled)
    stopped = invoke(*usual("--outdir", "run"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert stopped.exit_code == 130, stopped.output
    assert "asa train-mini --resume run" in stopped.output
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = invoke("--resume", "run")
    assert resumed.exit_code == 0, resumed.output
    one, two = model_of(tmp_path / "whole"), model_of(tmp_path / "run")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_data_that_changed_are_not_resumed_on(invoke, tmp_path):
    assert invoke(*usual("--outdir", "run")).exit_code == 0
    (tmp_path / "text.txt").write_text((tmp_path / "text.txt").read_text() + "\n\nOne more.")
    done = invoke("--resume", "run")
    assert done.exit_code == 2
    assert "the data are not those that the run was begun on" in done.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--config", "absent.toml"), "cannot read absent.toml"),
        (usual("--set", "learnig_rate=1"), "did you mean train.learning_rate?"),
        (usual("--set", "train.warmup_steps=6"), "wanted fewer than total_steps (6), got 6"),
        (usual("--steps", 3, "--epochs", 1), "give one of them"),
        (usual("--set", "total_steps=3", "--epochs", 1), "give one of them"),
        (usual("--epochs", -1), "--epochs: wanted more than 0"),
        (usual("--device", "tpu"), "wanted cpu, cuda, cuda:N or mps"),
        (usual("--set", "vocab_size=100"), "model.vocab_size 100 is less than the 257 tokens of bytes"),
        (usual("--set", "num_heads=3"), "num_heads"),
        (usual("--resume", "run"), "leave out --config, --set"),
        (("--resume", "absent"), "cannot read absent/config.toml"),
        (("--data", "hub:org/name"), "needs --online"),
        (("--config", "tiny.toml", "--data", "absent.txt"), "no text at"),
        (usual("--outdir", "text.txt"), "never written over another"),
    ],
)  # fmt: skip
def test_what_is_refused(invoke, tmp_path, options, text):
    before = sorted(tmp_path.rglob("*"))
    done = invoke(*options)
    assert done.exit_code == 2
    assert text in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_gradients_that_are_never_finite_end_with_status_1(invoke, monkeypatch):
    from asa.training import loop

    monkeypatch.setattr(loop, "update", lambda *args: (float("nan"), False))
    done = invoke(*usual("--outdir", "run", "--set", "max_nonfinite_steps=2"))
    assert done.exit_code == 1
    assert "not finite in 2 steps in a row" in done.output
