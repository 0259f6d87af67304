"""Manifests from headers, for every layout of files, and damage of every kind."""

import io
import json
import pickle
import struct
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.keys import TensorInfo, manifest_digest
from trialplate.checkpoints.manifest import read_manifest, state_manifest

WANTED = {
    "embed.weight": TensorInfo("F32", (5, 4)),
    "layers.0.q.weight": TensorInfo("F32", (4, 4)),
    "layers.0.k.weight": TensorInfo("F32", (4, 4)),
    "layers.0.bias": TensorInfo("F16", (4,)),
    "scale": TensorInfo("F32", ()),
    "steps": TensorInfo("I64", (3,)),
    "brain": TensorInfo("BF16", (2, 3)),
}


def test_every_layout_gives_the_same_manifest(tmp_path, tensors, write_shards):
    save_file(tensors, tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    torch.save(tensors, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    halves = {"1.safetensors": ["scale", "steps", "brain"], "2.safetensors": [k for k in tensors if "." in k]}
    write_shards(tmp_path / "shards", tensors, halves)
    torch_halves = {name.replace("safetensors", "bin"): keys for name, keys in halves.items()}
    write_shards(tmp_path / "torch_shards", tensors, torch_halves, kind="torch")
    places = [
        tmp_path / "model.safetensors",
        tmp_path / "pytorch_model.bin",
        tmp_path / "legacy.bin",
        tmp_path / "shards",
        tmp_path / "torch_shards",
    ]
    for place in places:
        assert read_manifest(place) == WANTED, place
    assert state_manifest(tensors) == WANTED


def test_headers_are_read_without_the_weights(tmp_path, tensors, monkeypatch):
    save_file(tensors, tmp_path / "model.safetensors")
    monkeypatch.setattr("trialplate.checkpoints.manifest.iter_file", None)  # would fail if a tensor were asked for
    monkeypatch.setattr("trialplate.checkpoints.manifest.file_contents", None)
    assert read_manifest(tmp_path)["embed.weight"].text == "F32[5, 4]"


def test_content_and_transposed_digests_on_request(tmp_path, tensors):
    save_file(tensors, tmp_path / "model.safetensors")
    plain = read_manifest(tmp_path, content=True)
    full = read_manifest(tmp_path, content=True, transposed=True)
    assert all(info.content and info.transposed is None for info in plain.values())
    assert full["scale"].transposed is None
    turned = read_manifest_of({"w": tensors["layers.0.q.weight"].T.contiguous()}, tmp_path / "t.safetensors")
    assert full["layers.0.q.weight"].transposed == turned["w"].content
    assert state_manifest(tensors, content=True) == plain


def read_manifest_of(tensors, file):
    save_file(tensors, file)
    return read_manifest(file, content=True)


def test_manifest_digest_ignores_order_and_content(tensors):
    manifest = state_manifest(tensors)
    assert manifest_digest(manifest) == manifest_digest(dict(reversed(manifest.items())))
    assert manifest_digest(manifest) == manifest_digest(state_manifest(tensors, content=True))
    assert manifest_digest(manifest) != manifest_digest({**manifest, "scale": TensorInfo("F32", (1,))})
    assert manifest["embed.weight"].numel == 20
    assert manifest["scale"].numel == 1


def test_truncated_file_says_wanted_and_got(tmp_path, tensors):
    file = tmp_path / "model.safetensors"
    save_file(tensors, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(CheckpointError, match=rf"wanted {len(whole)} bytes, got {len(whole) - 7}: it is truncated"):
        read_manifest(file)
    file.write_bytes(whole[:20])
    with pytest.raises(CheckpointError, match="for the header alone, got 20"):
        read_manifest(file)
    file.write_bytes(b"abc")
    with pytest.raises(CheckpointError, match="a file of 3 bytes"):
        read_manifest(file)


def test_overlong_and_garbled_headers_are_refused(tmp_path, tensors):
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(CheckpointError, match="more than the format allows"):
        read_manifest(file)
    file.write_bytes(struct.pack("<Q", 4) + b"{{{{")
    with pytest.raises(CheckpointError, match="header is not JSON"):
        read_manifest(file)
    header = json.dumps({"a": [1]}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_manifest(file)
    file.unlink()
    file.symlink_to(tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError):
        read_manifest(file)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_error_of_ours_and_nothing_else(tmp_path_factory, content):
    for suffix in (".safetensors", ".bin"):
        file = tmp_path_factory.mktemp("bytes") / f"model{suffix}"
        file.write_bytes(content)
        with pytest.raises(CheckpointError):
            read_manifest(file)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_pickle_that_needs_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"a": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"needs code to load.*print"):
        read_manifest(tmp_path)
    (tmp_path / "raw.bin").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match="refused"):
        read_manifest(tmp_path / "raw.bin")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [([torch.ones(1)], "holds a list"), ({"a": 3}, "flat mapping"), ({3: torch.ones(1)}, "flat mapping")],
)
def test_torch_file_of_another_shape_is_refused(tmp_path, content, says):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=says):
        read_manifest(tmp_path)


def test_truncated_torch_file_is_refused(tmp_path, tensors):
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    (tmp_path / "pytorch_model.bin").write_bytes(buffer.getvalue()[:-100])
    with pytest.raises(CheckpointError):
        read_manifest(tmp_path)


def test_index_and_shards_must_agree(tmp_path, tensors, write_shards):
    folder = write_shards(tmp_path / "a", tensors, {"1.safetensors": ["scale", "steps"], "2.safetensors": ["brain"]})
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]

    def rewrite(changed):
        index.write_text(json.dumps({"weight_map": changed}))

    rewrite({**weight_map, "absent": "1.safetensors"})
    with pytest.raises(CheckpointError, match=r"promises 'absent' in 1\.safetensors, but no shard has it"):
        read_manifest(folder)
    swapped = {"scale": "2.safetensors", "steps": "1.safetensors", "brain": "2.safetensors"}
    rewrite(swapped)
    with pytest.raises(CheckpointError, match=r"promises 'scale' in 2\.safetensors, but it is in 1\.safetensors"):
        read_manifest(folder)
    rewrite({key: name for key, name in weight_map.items() if key != "scale"})
    with pytest.raises(CheckpointError, match="does not know 1 stored tensors, first 'scale'"):
        read_manifest(folder)
    rewrite({**weight_map, "more": "3.safetensors"})
    with pytest.raises(CheckpointError, match=r"promises 1 tensors in 3\.safetensors, which is not in"):
        read_manifest(folder)


def test_a_tensor_stored_twice_is_refused(tmp_path, tensors, write_shards):
    folder = write_shards(
        tmp_path / "a", tensors, {"1.safetensors": ["steps", "scale"], "2.safetensors": ["scale", "brain"]}
    )
    with pytest.raises(CheckpointError, match="'scale' is stored twice"):
        read_manifest(folder)


def test_a_file_without_tensors_is_refused(tmp_path):
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_manifest(tmp_path)


def test_importing_the_light_modules_imports_no_torch():
    names = ["", ".errors", ".files", ".keys", ".diff", ".golden"]
    code = "import sys\n" + "\n".join(f"import trialplate.checkpoints{name}" for name in names)
    code += "\nassert not {'torch', 'numpy', 'safetensors'} & sys.modules.keys(), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(subprocess.CalledProcessError):  # the check can fail
        subprocess.run(
            [sys.executable, "-c", "import trialplate.checkpoints.tensors\n" + code],
            check=True,
            timeout=60,
            capture_output=True,
        )
