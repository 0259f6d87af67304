"""A file is the old one or the new one: a full or read-only disk at any step leaves the old one and nothing else."""

import errno
import os

import pytest

from trialplate.report import files
from trialplate.report.files import point_latest, write_atomic

pytestmark = pytest.mark.fast

FAULTS = pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)


def broken(monkeypatch, name, fault, *, after=0):
    """Let the os function fail from its call number `after` on."""
    real, calls = getattr(os, name), []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) > after:
            raise OSError(fault, os.strerror(fault), args[0] if isinstance(args[0], str) else None)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, fail)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "report.json"
    write_atomic(path, b"old")
    return path


@FAULTS
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_failed_step_leaves_the_old_file_and_no_temporary_one(target, monkeypatch, step, fault):
    with monkeypatch.context() as patch:
        broken(patch, step, fault)
        with pytest.raises(OSError) as caught:
            write_atomic(target, b"new")
    assert caught.value.errno == fault
    assert names(target.parent) == ["report.json"]
    assert target.read_bytes() == b"old"


def test_a_disk_that_fills_up_half_way_leaves_the_old_file(target, monkeypatch):
    real, calls = os.write, []

    def fill_up(fd, data):
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(data)[:3])

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", fill_up)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(target, b"something new")
    assert calls == [13, 10]
    assert names(target.parent) == ["report.json"]
    assert target.read_bytes() == b"old"


def test_ctrl_c_between_two_steps_leaves_the_old_file(target, monkeypatch):
    def interrupt(fd):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(target, b"new")
    assert names(target.parent) == ["report.json"]
    assert target.read_bytes() == b"old"


def test_a_rename_that_is_not_promised_to_last_is_an_error(target, monkeypatch):
    with monkeypatch.context() as patch:
        broken(patch, "fsync", errno.EIO, after=1)  # the file's own is first, the folder's second
        with pytest.raises(OSError):
            write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["report.json"]


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_latest_moves_in_one_step(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        point_latest(tmp_path / name)
        assert (tmp_path / "latest").readlink().name == name
    assert names(tmp_path) == ["latest", "one", "two"]


@FAULTS
@pytest.mark.parametrize("step", ["symlink", "replace"])
def test_a_latest_that_cannot_move_stays_where_it_was(tmp_path, monkeypatch, step, fault):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    point_latest(tmp_path / "one")
    with monkeypatch.context() as patch:
        broken(patch, step, fault)
        with pytest.raises(OSError):
            point_latest(tmp_path / "two")
    assert (tmp_path / "latest").readlink().name == "one"
    assert names(tmp_path) == ["latest", "one", "two"]


def test_a_folder_named_latest_is_not_ours_to_remove(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "one").mkdir()
    with pytest.raises(FileExistsError, match="is not a link of ours; move it away or give another --report"):
        point_latest(tmp_path / "one")
