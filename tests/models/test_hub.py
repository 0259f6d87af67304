"""The hub: offline by default, and only the files that are read here when online. No test reaches for a network."""

import os
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from trialplate.models import hub
from trialplate.models.errors import ModelNotFound


def test_go_offline_sets_what_is_unset_and_keeps_the_rest(monkeypatch):
    for name in hub._OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.go_offline()
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert os.environ["DO_NOT_TRACK"] == "1"


FILES = [
    "config.json",
    "model.safetensors",
    "pytorch_model.bin",
    "tokenizer.json",
    "modeling_evil.py",
    "onnx/model.onnx",
    "flax_model.msgpack",
    "training_args.bin",
    "README.md",
]


def test_wanted_files_prefer_safetensors_and_take_no_code():
    assert set(hub.wanted_files(FILES, weights=True)) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert set(hub.wanted_files(FILES, weights=False)) == {"config.json", "tokenizer.json"}
    without = [name for name in FILES if not name.endswith(".safetensors")]
    assert set(hub.wanted_files(without, weights=True)) == {"config.json", "tokenizer.json", "pytorch_model.bin"}
    shards = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert hub.wanted_files(shards, weights=True) == shards


def test_download_asks_for_those_files_at_that_revision(monkeypatch, tmp_path):
    asked = {}
    siblings = [SimpleNamespace(rfilename=name) for name in FILES]
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda self, hub_id, revision=None: SimpleNamespace(siblings=siblings)
    )

    def snapshot(hub_id, *, revision, allow_patterns):
        asked.update(hub_id=hub_id, revision=revision, files=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert hub.download("org/name", "step1000") == tmp_path
    assert (asked["hub_id"], asked["revision"]) == ("org/name", "step1000")
    assert "modeling_evil.py" not in asked["files"]


def test_offline_variables_are_named_as_the_reason(monkeypatch):
    def offline(self, hub_id, revision=None):
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", offline)
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"):
        hub.download("org/name", None)


def test_refusals_of_the_hub_keep_its_words(monkeypatch):
    base = hub.transport_errors()[0]

    class Refused(base):
        def __init__(self, text):
            Exception.__init__(self, text)

    def refuse(self, hub_id, revision=None):
        raise Refused("no such revision")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    with pytest.raises(
        ModelNotFound, match="cannot fetch org/name at revision step1 from the hub: Refused: no such revision"
    ):
        hub.download("org/name", "step1")


def test_cached_revisions(make_folder, hub_cache):
    assert hub.cached_revisions("org/name") == []
    hub_cache("org/name", make_folder("gpt2"), "step1")
    assert hub.cached_revisions("org/name") == ["step1"]
