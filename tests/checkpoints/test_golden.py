"""Golden key lists: round trip, a layout that people can diff, and refusal of what is not understood."""

import json

import pytest

from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.golden import SCHEMA, find_golden, golden_path, read_golden, write_golden
from trialplate.checkpoints.keys import TensorInfo
from trialplate.checkpoints.manifest import state_manifest


def test_round_trip_with_and_without_content(tmp_path, tensors):
    manifest = state_manifest(tensors, content=True)
    write_golden(tmp_path / "a.json", ["m", "m-deduped"], manifest, note="n", content=True)
    golden = read_golden(tmp_path / "a.json")
    assert (golden.keys, golden.models, golden.note) == (manifest, ("m", "m-deduped"), "n")
    assert golden.has_content
    write_golden(tmp_path / "b.json", ["m"], manifest)
    assert read_golden(tmp_path / "b.json").keys == state_manifest(tensors)
    assert not read_golden(tmp_path / "b.json").has_content


def test_file_has_one_line_a_key_sorted(tmp_path, tensors):
    write_golden(tmp_path / "a.json", ["m"], state_manifest(tensors))
    lines = [line for line in (tmp_path / "a.json").read_text().splitlines() if line.startswith("    ")]
    assert [line.strip().split('"')[1] for line in lines] == sorted(tensors)
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == SCHEMA
    assert not list(tmp_path.glob("*.tmp"))


def test_find_by_model_name(tmp_path, tensors):
    assert find_golden(tmp_path, "m") is None
    write_golden(tmp_path / "a.json", ["m", "n"], state_manifest(tensors))
    assert find_golden(tmp_path, "n").path == tmp_path / "a.json"
    assert golden_path(tmp_path, "n") == tmp_path / "a.json"
    assert golden_path(tmp_path, "embedded:other/x") == tmp_path / "embedded-other-x.json"
    write_golden(tmp_path / "b.json", ["n"], state_manifest(tensors))
    with pytest.raises(CheckpointError, match="one golden key list"):
        find_golden(tmp_path, "n")


def test_nothing_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="at least one"):
        write_golden(tmp_path / "a.json", ["m"], {})
    with pytest.raises(CheckpointError, match="content=True"):
        write_golden(tmp_path / "a.json", ["m"], {"a": TensorInfo("F32", (1,))}, content=True)


GOOD = {"schema": SCHEMA, "models": ["m"], "note": "", "keys": {"a": ["F32", [1]]}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "trialplate.keys/2"}, "has schema 'trialplate.keys/2'; this release reads 'trialplate.keys/1'"),
        ({"extra": 1}, "unknown field 'extra'"),
        ({"models": []}, "models must be a list"),
        ({"models": "m"}, "models must be a list"),
        ({"keys": {}}, "at least one key"),
        ({"keys": {"a": ["F32"]}}, "'a' has the entry"),
        ({"keys": {"a": ["F32", [-1]]}}, "'a' has the entry"),
        ({"keys": {"a": ["F32", [True]]}}, "'a' has the entry"),
        ({"keys": {"a": ["F32", [1], 3]}}, "'a' has the entry"),
        ({"keys": {"a": "F32"}}, "'a' has the entry"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, change, says):
    (tmp_path / "a.json").write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(CheckpointError, match=says):
        read_golden(tmp_path / "a.json")


def test_damaged_files_are_refused(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(CheckpointError, match="--golden-update"):
        read_golden(file)
    for text, says in (
        ("{", "is not a golden key list"),
        ("[]", "has schema 'list'"),
        ('{"schema": 1, "schema": 2}', "'schema' occurs twice"),
    ):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=says):
            read_golden(file)
    file.write_text(json.dumps({key: value for key, value in GOOD.items() if key != "note"}))
    with pytest.raises(CheckpointError, match="lacks the field 'note'"):
        read_golden(file)
