"""Finding weight files: what goes first, and what an index may not do."""

import json

import pytest
import torch
from safetensors.torch import save_file

from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.files import find_weights, has_weights


def test_safetensors_go_before_torch_files(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    found = find_weights(tmp_path)
    assert found.format == "safetensors"
    assert [file.name for file in found.files] == ["model.safetensors"]


def test_torch_file_is_found_alone(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert find_weights(tmp_path).format == "torch"
    assert has_weights(tmp_path)


def test_a_single_file_is_a_checkpoint(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    assert find_weights(tmp_path / "other.safetensors").files == (tmp_path / "other.safetensors",)


def test_index_names_its_shards_once_each(tmp_path, tensors, write_shards):
    write_shards(tmp_path, tensors, {"b.safetensors": ["scale", "steps"], "a.safetensors": ["brain"]})
    found = find_weights(tmp_path)
    assert [file.name for file in found.files] == ["a.safetensors", "b.safetensors"]
    assert found.weight_map["brain"] == "a.safetensors"
    assert find_weights(found.index).files == found.files


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "sub/a.safetensors", "..", "", "a\\b.safetensors"]
)
def test_index_that_points_out_of_its_folder_is_refused(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="plain file name"):
        find_weights(tmp_path)


def test_link_out_of_the_folder_is_refused(tmp_path):
    inside, outside = tmp_path / "model", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    save_file({"a": torch.ones(1)}, outside / "w.safetensors")
    (inside / "model.safetensors").symlink_to(outside / "w.safetensors")
    with pytest.raises(CheckpointError, match="symbolic link"):
        find_weights(inside)


def test_links_of_a_hub_cache_into_its_blobs_are_followed(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("0" * 40), tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save_file({"a": torch.ones(1)}, blobs / "abc")
    (snapshot / "model.safetensors").symlink_to(blobs / "abc")
    assert len(find_weights(snapshot).files) == 1


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "\ud800".encode("utf-8", "surrogatepass")],
)
def test_malformed_index_is_refused(tmp_path, text):
    file = tmp_path / "model.safetensors.index.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match="index"):
        find_weights(tmp_path)


def test_nothing_to_read_is_an_error_that_names_what_lies_there(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"weights\.pt.*convert them to safetensors"):
        find_weights(tmp_path)
    with pytest.raises(CheckpointError, match="refused"):
        find_weights(tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        find_weights(tmp_path / "nowhere")
    assert not has_weights(tmp_path)
