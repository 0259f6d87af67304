"""Checkpoints on disk: what is kept, what is removed, and that nothing else ever is."""

import hashlib
import json

import pytest
import torch

from asa.train import CheckpointStore, StoreError
from asa.utils import files
from asa.utils.files import write_atomic

pytestmark = pytest.mark.fast


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".pt")


def saved(folder, steps=(1, 2, 3), keep=2):
    store = CheckpointStore(folder, keep)
    for step in steps:
        store.save({"step": step, "x": torch.ones(2) * step}, step=step)
    return store


@pytest.mark.parametrize(("keep", "steps"), [(0, []), (1, ["step-00000003.pt"]), (2, ["step-00000002.pt", "step-00000003.pt"])])  # fmt: skip
def test_last_and_keep(tmp_path, keep, steps):
    store = saved(tmp_path / "c", keep=keep)
    assert names(tmp_path / "c") == ["last.pt", *steps]
    assert store.load()["step"] == 3


def test_best_stays_when_steps_go(tmp_path):
    store = saved(tmp_path / "c", steps=(1,))
    store.save({"step": 1, "best": True}, best=True)
    saved(tmp_path / "c", steps=(2, 3, 4, 5))
    assert store.load("best.pt") == {"step": 1, "best": True}


def test_each_file_has_its_sha256_beside_it(tmp_path):
    saved(tmp_path / "c")
    sidecars = sorted((tmp_path / "c").glob("*.sha256"))
    assert [path.name for path in sidecars] == [f"{name}.sha256" for name in names(tmp_path / "c")]
    for path in sidecars:
        digest, name = path.read_text().split()
        assert hashlib.sha256((tmp_path / "c" / name).read_bytes()).hexdigest() == digest


def test_a_changed_step_is_not_removed(tmp_path):
    store = saved(tmp_path / "c", steps=(1, 2))
    mine = tmp_path / "c" / "step-00000001.pt"
    mine.write_bytes(b"edited")
    store.save({"step": 3}, step=3)
    assert mine.read_bytes() == b"edited"
    assert store.left_alone == ["step-00000001.pt"]
    assert (tmp_path / "c" / "step-00000001.pt.sha256").exists()


def test_a_strangers_step_is_not_removed(tmp_path):
    (tmp_path / "c").mkdir()
    stranger = tmp_path / "c" / "step-00000000.pt"
    stranger.write_bytes(b"not ours")
    saved(tmp_path / "c", keep=1)
    assert stranger.read_bytes() == b"not ours"


def test_a_manifest_cannot_name_another_file_for_removal(tmp_path):
    precious = tmp_path / "precious.pt"
    precious.write_bytes(b"precious")
    saved(tmp_path / "c", steps=(1,))
    manifest = tmp_path / "c" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["written"]["../precious.pt"] = [hashlib.sha256(b"precious").hexdigest()]
    manifest.write_text(json.dumps(content))
    saved(tmp_path / "c", steps=(2, 3, 4), keep=1)
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["last.pt", "best.pt", "step-00000002.pt"])
def test_a_file_that_is_not_ours_is_not_replaced(tmp_path, name):
    store = saved(tmp_path / "c", steps=(1,))
    foreign = tmp_path / "c" / name
    foreign.write_bytes(b"somebody else's")
    others = {path: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    with pytest.raises(StoreError, match="was not written by this run, or was changed since"):
        store.save({"step": 2}, step=2, best=True)
    assert {path: path.read_bytes() for path in (tmp_path / "c").iterdir()} == others


def test_a_changed_checkpoint_is_not_loaded(tmp_path):
    store = saved(tmp_path / "c")
    data = bytearray((tmp_path / "c" / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "c" / "last.pt").write_bytes(data)
    with pytest.raises(StoreError, match="is not the file that the run wrote"):
        store.load()


def test_no_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="Start it anew"):
        CheckpointStore(tmp_path / "c", 1).load()


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', '{"schema": 2, "written": {}}'])
def test_a_manifest_that_cannot_be_read(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="manifest"):
        CheckpointStore(tmp_path, 1)


@pytest.mark.parametrize("survivor", ["old", "new"])
def test_a_death_between_announcement_and_record_leaves_a_known_file(tmp_path, monkeypatch, survivor):
    """The process dies after the manifest announced last.pt: before, or after, the file took its place."""
    store = saved(tmp_path / "c", steps=(1,))

    def dying(path, data):
        if path.name != "last.pt":
            return write_atomic(path, data)
        if survivor == "new":
            write_atomic(path, data)
        raise KeyboardInterrupt

    monkeypatch.setattr("asa.training.store.write_atomic", dying)
    with pytest.raises(KeyboardInterrupt):
        store.save({"step": 2}, step=2)
    monkeypatch.undo()
    again = CheckpointStore(tmp_path / "c", 2)
    assert again.load()["step"] == {"old": 1, "new": 2}[survivor]
    again.save({"step": 3}, step=3)
    assert again.load()["step"] == 3


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
