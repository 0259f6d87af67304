"""Texts that users meet, whole: what was wanted, what was found, where, and what to do next."""

import json
from pathlib import Path

import pytest

from trialplate.models.errors import ModelError
from trialplate.models.load import load
from trialplate.models.spec import ModelSpec


def text_of(spec: ModelSpec) -> str:
    with pytest.raises(ModelError) as caught:
        load(spec)
    return str(caught.value)


def test_hub_model_that_is_not_here(hub_cache, tmp_path):
    assert text_of(ModelSpec("pythia-70m", "step1000")) == (
        f"EleutherAI/pythia-70m at revision step1000 is not in the hub cache {tmp_path / 'hub'}. "
        "Get it with `hf download EleutherAI/pythia-70m --revision step1000`, or run with --online."
    )


def test_checkpoint_that_does_not_exist():
    assert text_of(ModelSpec("pythia-70m", "step1500")) == (
        "pythia-70m has no checkpoint 'step1500' (it has 154, from step0 to step143000); nearest are step1000 and step2000"
    )


def test_misspelt_name():
    assert text_of(ModelSpec("pythia-70")) == (
        f"no model 'pythia-70'. Looked for an embedded model (embedded:neox-tiny, embedded:asm-tiny …), a folder {Path.cwd() / 'pythia-70'}, "
        "and a catalogue name (nearest: pythia-70m, pythia-410m, pythia-160m). A hub id is written org/name, a folder ./name."
    )


def test_folder_without_configuration(tmp_path):
    (tmp_path / "weights.npz").touch()
    assert text_of(ModelSpec(str(tmp_path))) == (
        f"{tmp_path} has no config.json, so it is not a model folder (it has weights.npz). "
        "Save the model with save_pretrained, or name another folder."
    )


def test_revision_of_a_folder(make_folder):
    folder = make_folder("gpt2")
    assert text_of(ModelSpec(str(folder), "main")) == (
        f"{folder} is a folder and has no revisions, got --revision main. Leave it out, or name a hub model."
    )


def test_weights_of_another_model(copy_folder):
    folder = copy_folder("gpt_neox")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert text_of(ModelSpec(str(folder))) == (
        f"{folder}: the weights in {folder} do not fit the model of its config.json: 12 keys that the model wants and the file lacks, "
        "first 'gpt_neox.layers.2.attention.dense.bias'. Weights are never filled in or left out: fetch the checkpoint again, or correct config.json."
    )


def test_adapter_that_is_not_there(hub_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text_of(ModelSpec("embedded:neox-tiny", adapter="me/lora")) == (
        f"no adapter 'me/lora': there is no folder of that name under {tmp_path}, and the hub cache {tmp_path / 'hub'} does not have it. "
        "Get it with `hf download me/lora`, or run with --online."
    )
