"""Which files are looked at, and what the file system can do to a scan."""

import os
import stat

import pytest

from trialplate.inventory import files
from trialplate.inventory.files import FolderError, listed
from trialplate.inventory.scan import scan

pytestmark = pytest.mark.fast


def names(folder):
    return [f.name for f in listed(folder)]


def test_notebooks_and_scripts_in_order_and_nothing_hidden(tmp_path):
    for name in (
        "b.py",
        "a/z.ipynb",
        "a.PY",
        "c.txt",
        ".hidden.py",
        ".git/x.py",
        "__pycache__/x.py",
        "env/pyvenv.cfg",
        "env/lib/x.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.PY", "a/z.ipynb", "b.py"]
    assert names(tmp_path / "env") == ["lib/x.py"]


def test_links_can_neither_loop_nor_lead_away(tmp_path):
    folder, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "far.py").write_text("x = 1")
    (folder / "loop").symlink_to(folder)
    (folder / "away").symlink_to(elsewhere)
    (folder / "self.py").symlink_to("self.py")
    (folder / "gone.ipynb").symlink_to("nowhere")
    (folder / "linked.py").symlink_to(elsewhere / "far.py")
    found = {e.path: e.problems for e in scan(folder).entries}
    assert list(found) == ["gone.ipynb", "linked.py", "self.py"]
    assert found["linked.py"] == ()
    assert "leads nowhere" in found["gone.ipynb"][0]
    assert "leads nowhere" in found["self.py"][0]


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.py")
    assert stat.S_ISFIFO((tmp_path / "x.py").stat().st_mode)
    assert scan(tmp_path).entries[0].problems == ("no regular file",)


def test_a_huge_file_is_named_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 2**20)
    with (tmp_path / "x.ipynb").open("wb") as file:
        file.truncate(3 * 2**20)
    assert scan(tmp_path).entries[0].problems == ("3 MiB; files of more than 1 MiB are not read",)


def test_names_that_are_no_utf8_or_hold_line_breaks(tmp_path):
    (tmp_path / os.fsdecode(b"bad\xff.py")).touch()
    (tmp_path / "new\nline.py").touch()
    assert [e.path for e in scan(tmp_path).entries] == [r"bad\xff.py", r"new\nline.py"]


def test_what_may_not_be_read_is_said(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "x.py").write_text("x = 1")
    honest = os.scandir

    def refusing(path):
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path)

    def unreadable(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refusing)
    monkeypatch.setattr(type(tmp_path), "read_bytes", unreadable)
    found = {e.path: (e.kind, e.problems) for e in scan(tmp_path).entries}
    reason = ("cannot be read: Permission denied",)
    assert found == {"inner/": ("folder", reason), "x.py": ("script", reason)}


def test_a_folder_that_cannot_be_scanned(tmp_path, monkeypatch):
    with pytest.raises(FolderError, match="is not there; give a folder of notebooks and scripts"):
        scan(tmp_path / "absent")
    (tmp_path / "x.py").touch()
    with pytest.raises(FolderError, match=r"x.py is a file; give the folder that holds it"):
        scan(tmp_path / "x.py")

    def refusing(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(FolderError, match="cannot be read: Permission denied"):
        scan(tmp_path)


def test_nothing_of_the_folder_is_run(tmp_path):
    (tmp_path / "x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert len(scan(tmp_path).entries) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.py"]
