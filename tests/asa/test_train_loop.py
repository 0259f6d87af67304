"""A whole training: it learns, repeats, leaves a complete folder, refuses what it must, and gives everything back."""

import csv
import json
import math
import random

import pytest
import torch
from tests.asa.train_setup import container, digest, text, tiny_cfg, tiny_model, tiny_settings

from asa.train import COLUMNS, NonFiniteGradients, RunFolderError, SettingsError, train


def run(tmp_path, name="run", *, model=None, settings=None, **arguments):
    model = model or tiny_model()
    result = train(model, text(), text(200, seed=9), settings or tiny_settings(), tmp_path / name, **arguments)
    return model, result


def test_it_learns_the_two_rules(tmp_path):
    """Each token has two equally likely successors: no model can be below log 2, a good one is near it."""
    settings = tiny_settings(total_steps=80, learning_rate=3e-2, eval_interval=40, log_interval=40)
    model, result = run(tmp_path, model=tiny_model(num_layers=1), settings=settings)
    assert result.finished
    assert not model.training
    assert math.log(2) < result.best_val < 1.0


def test_the_folder_of_a_run(tmp_path):
    _, result = run(tmp_path, val_bytes=400, checksums={"source": "two rules"}, files={"note.txt": "hello"})
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "environment.json", "dataset_checksums.json", "metrics.ndjson", "metrics.csv", "checkpoints", "note.txt",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["total_steps"] == config["cfg"]["total_steps"] == 6
    assert config["cfg"]["num_slots"] == 4
    sums = json.loads((folder / "dataset_checksums.json").read_text())
    assert (sums["source"], sums["train"]["tokens"], sums["validation"]["tokens"]) == ("two rules", 800, 200)
    assert json.loads((folder / "environment.json").read_text())["threads"] == 1
    records = [json.loads(line) for line in (folder / "metrics.ndjson").read_text().splitlines()]
    assert [r["step"] for r in records] == [2, 3, 4, 6]
    assert [r["step"] for r in records if "val_loss" in r] == [3, 6]
    assert records[-1]["val_bits_per_byte"] == pytest.approx(records[-1]["val_loss"] * 199 / math.log(2) / 400)
    assert records[-1]["tokens"] == result.tokens == 6 * 4 * 16
    table = list(csv.DictReader((folder / "metrics.csv").open()))
    assert tuple(table[0]) == COLUMNS
    assert [float(row["loss"]) for row in table] == [r["loss"] for r in records]


def test_the_checkpoint_is_the_published_container(tmp_path):
    from asa.checkpoint import load_checkpoint

    model, result = run(tmp_path)
    last = container(tmp_path / "run")
    assert {"cfg", "model", "opt", "step", "best_val"} <= set(last)
    assert last["step"] == 6
    assert last["best_val"] == result.best_val
    assert digest(last["model"]) == digest(model.state_dict())
    loaded = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    ids = text(16).unsqueeze(0)
    assert torch.equal(loaded.model(ids), model.eval()(ids))
    assert loaded.cfg.learning_rate == 1e-2


def test_the_best_checkpoint_is_that_of_the_best_validation(tmp_path):
    """After step 20 the rate is so high that the loss rises: best is not last."""
    settings = tiny_settings(total_steps=30, warmup_steps=29, learning_rate=3.0, eval_interval=5, grad_clip=0.0)
    _, result = run(tmp_path, settings=settings)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.ndjson").read_text().splitlines()]
    losses = {r["step"]: r["val_loss"] for r in records if "val_loss" in r}
    assert result.best_step == min(losses, key=losses.get) < 30
    assert result.best_val == losses[result.best_step] < losses[30]
    assert container(tmp_path / "run", "best.pt")["step"] == result.best_step


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before(tmp_path):
    settings = tiny_settings(grad_accum_steps=2)
    one, _ = run(tmp_path, "a", model=tiny_model(dropout=0.2), settings=settings)
    torch.rand(7), random.random()
    same, _ = run(tmp_path, "b", model=tiny_model(dropout=0.2), settings=settings)
    other, _ = run(tmp_path, "c", model=tiny_model(dropout=0.2), settings=tiny_settings(grad_accum_steps=2, seed=1))
    assert digest(one.state_dict()) == digest(same.state_dict())
    assert digest(one.state_dict()) != digest(other.state_dict())


def test_nothing_global_is_left_changed(tmp_path):
    before = torch.get_rng_state(), random.getstate(), torch.get_num_threads()
    run(tmp_path, model=tiny_model(dropout=0.2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.get_num_threads() == before[2]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_is_never_written_over_another(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="never written over another"):
        run(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def poisoned(model, at):
    """The model, with gradients that are not finite in the forward passes numbered `at`."""
    calls = iter(range(10_000))

    def spoil(module, args, out):
        return out * math.nan if module.training and next(calls) in at else out

    model.register_forward_hook(spoil)
    return model


def test_steps_that_are_not_finite_are_refused_and_counted(tmp_path):
    model, result = run(tmp_path, model=poisoned(tiny_model(), at={1, 4}))
    assert result.refused_steps == 2
    assert result.finished
    assert all(torch.isfinite(p).all() for p in model.parameters())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.ndjson").read_text().splitlines()]
    assert [r["refused_steps"] for r in records] == [1, 1, 1, 2]
    assert records[0]["grad_norm"] is None  # step 2 itself; JSON has no NaN
    assert all(math.isfinite(r["loss"]) for r in records)


def test_too_many_refused_steps_in_a_row_end_the_training(tmp_path):
    settings = tiny_settings(total_steps=30, max_nonfinite_steps=3, checkpoint_interval=2)
    with pytest.raises(NonFiniteGradients, match=r"3 steps in a row, the last of them step 7 .*Lower learning_rate"):
        run(tmp_path, model=poisoned(tiny_model(), at={1, 4, 5, 6}), settings=settings)
    assert container(tmp_path / "run")["step"] == 6


def test_it_stops_when_asked_with_a_checkpoint(tmp_path):
    asked = iter([False, False, False, True])
    _, result = run(tmp_path, should_stop=lambda: next(asked))
    assert (result.step, result.finished) == (4, False)
    assert container(tmp_path / "run")["step"] == 4


def test_progress_is_told_every_step(tmp_path):
    seen = []
    run(tmp_path, progress=lambda step, total, record: seen.append((step, total, record is not None)))
    assert seen == [(1, 6, False), (2, 6, True), (3, 6, True), (4, 6, True), (5, 6, False), (6, 6, True)]


def test_without_validation_text_there_is_no_best(tmp_path):
    result = train(tiny_model(), text(), None, tiny_settings(), tmp_path / "run")
    assert result.best_val is None
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_a_window_longer_than_the_model_reads_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError, match="max_seq_len 16"):
        run(tmp_path, settings=tiny_settings(seq_len=32))
    assert not (tmp_path / "run").exists()


def test_bfloat16_repeats_too(tmp_path):
    settings = tiny_settings(autocast="bf16")
    one, result = run(tmp_path, "a", settings=settings)
    same, _ = run(tmp_path, "b", settings=settings)
    assert result.finished
    assert digest(one.state_dict()) == digest(same.state_dict())


def test_the_configuration_of_a_checkpoint_says_how_it_was_trained(tmp_path):
    run(tmp_path, settings=tiny_settings(weight_decay=0.25))
    cfg = container(tmp_path / "run")["cfg"]
    assert cfg["weight_decay"] == 0.25
    assert tiny_cfg(weight_decay=0.25).num_slots == cfg["num_slots"]
