"""Content names weights: files, order, shards and formats play no part; every byte does."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from trialplate.checkpoints import digest
from trialplate.checkpoints.digest import state_digest, tensor_digest, weights_digest
from trialplate.checkpoints.keys import content_digest
from trialplate.checkpoints.manifest import read_manifest


def test_tensor_digest_is_sha256_of_row_major_bytes():
    tensor = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    assert tensor_digest(tensor) == hashlib.sha256(bytes([1, 2, 3, 4])).hexdigest()
    assert tensor_digest(tensor.T) == hashlib.sha256(bytes([1, 3, 2, 4])).hexdigest()
    assert tensor_digest(torch.zeros(0)) == hashlib.sha256(b"").hexdigest()
    assert tensor_digest(torch.tensor(True)) == hashlib.sha256(b"\x01").hexdigest()


def test_digest_is_of_content_not_of_files(tmp_path, tensors, write_shards):
    save_file(tensors, tmp_path / "model.safetensors")
    save_file(dict(reversed(tensors.items())), tmp_path / "other.safetensors", metadata={"format": "pt", "note": "x"})
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    keys = list(tensors)
    write_shards(tmp_path / "two", tensors, {"1.safetensors": keys[::2], "2.safetensors": keys[1::2]})
    write_shards(
        tmp_path / "three", tensors, {"z.safetensors": keys[:1], "y.safetensors": keys[1:3], "x.safetensors": keys[3:]}
    )
    wanted = state_digest(tensors)
    for place in ("model.safetensors", "other.safetensors", "pytorch_model.bin", "two", "three"):
        assert weights_digest(tmp_path / place) == wanted, place
    assert (tmp_path / "model.safetensors").read_bytes() != (tmp_path / "other.safetensors").read_bytes()
    assert content_digest(read_manifest(tmp_path, content=True)) == wanted


@pytest.mark.parametrize("change", ["bit", "name", "dtype", "shape", "drop"])
def test_digest_sees_every_change(tensors, change):
    changed = dict(tensors)
    if change == "bit":
        changed["scale"] = torch.nextafter(tensors["scale"], torch.tensor(9.0))
    elif change == "name":
        changed["scale2"] = changed.pop("scale")
    elif change == "dtype":
        changed["layers.0.bias"] = tensors["layers.0.bias"].view(torch.bfloat16)
    elif change == "shape":
        changed["brain"] = tensors["brain"].reshape(3, 2)
    else:
        del changed["steps"]
    assert state_digest(changed) != state_digest(tensors)


def test_digest_is_remembered_until_the_file_changes(tmp_path, tensors, monkeypatch):
    file = tmp_path / "model.safetensors"
    save_file(tensors, file)
    first = weights_digest(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(digest, "iter_file", None)  # a second reading would fail
        assert weights_digest(tmp_path) == first
    save_file({**tensors, "scale": torch.tensor(7.0)}, file)
    os.utime(file, ns=(1, 1))
    assert weights_digest(tmp_path) != first


def test_digest_of_nothing_is_undefined():
    with pytest.raises(ValueError, match="undefined"):
        content_digest({})
    with pytest.raises(ValueError, match="content=True"):
        content_digest(read_manifest_like())


def read_manifest_like():
    from trialplate.checkpoints.keys import TensorInfo

    return {"a": TensorInfo("F32", (1,))}
