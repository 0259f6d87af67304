"""The seal: nothing changes, goes or comes unnoticed, and it only grows."""

import hashlib
import os
import shutil
import subprocess

import pytest

from trialplate.inventory import seal
from trialplate.inventory.seal import MANIFEST, SealError, append, inspect, verify

pytestmark = pytest.mark.fast


@pytest.fixture
def archive(tmp_path):
    """A sealed archive of three files, one in a folder."""
    for name in ("a.py", "b.ipynb", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    assert append(tmp_path) == ["a.py", "b.ipynb", "sub/c.txt"]
    return tmp_path


def told(folder):
    return [(p.kind, p.name) for p in verify(folder)]


def test_a_sealed_archive_is_intact(archive):
    assert verify(archive) == []
    assert inspect(archive).intact == inspect(archive).names == ["a.py", "b.ipynb", "sub/c.txt"]
    line = (archive / MANIFEST).read_text().splitlines()[0]
    assert line == f"{hashlib.sha256(b'this is a.py').hexdigest()}  a.py"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_sha256sum_reads_the_manifest(archive):
    def status():
        return subprocess.run(
            ["sha256sum", "--strict", "--quiet", "-c", MANIFEST], cwd=archive, capture_output=True, check=False
        ).returncode

    assert status() == 0
    (archive / "a.py").write_text("other")
    assert status() == 1


def test_every_kind_of_change_is_told(archive):
    (archive / "a.py").write_text("this is a.pY")
    (archive / "b.ipynb").unlink()
    (archive / "new.py").write_text("x")
    assert told(archive) == [("changed", "a.py"), ("missing", "b.ipynb"), ("unsealed", "new.py")]
    assert inspect(archive).intact == ["sub/c.txt"]
    assert "was changed since it was sealed" in str(verify(archive)[0])


def test_a_renamed_file_is_missing_and_unsealed(archive):
    (archive / "a.py").rename(archive / "z.py")
    assert told(archive) == [("missing", "a.py"), ("unsealed", "z.py")]


def test_caches_and_hidden_names_are_no_part_of_it(archive):
    for name in ("__pycache__/a.pyc", ".ipynb_checkpoints/b.ipynb", ".DS_Store"):
        (archive / name).parent.mkdir(exist_ok=True)
        (archive / name).touch()
    assert verify(archive) == []


def test_links_are_no_files(archive, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(archive / "a.py", elsewhere / "a.py")
    (archive / "a.py").symlink_to(elsewhere / "a.py")
    (archive / "linked").symlink_to(elsewhere)
    (archive / "gone").symlink_to("nowhere")
    assert told(archive) == [("unreadable", "a.py"), ("unreadable", "gone"), ("unreadable", "linked")]


@pytest.mark.parametrize(
    "line",
    ["", "words", "0" * 64 + " a.py", "0" * 63 + "  a.py", "G" * 64 + "  a.py", "0" * 64 + "  ../a.py", "0" * 64 + "  /a.py",
     "0" * 64 + f"  {MANIFEST}", "0" * 64 + "  sub//c.txt"],
)  # fmt: skip
def test_a_malformed_line_is_told(line, archive):
    with (archive / MANIFEST).open("a") as file:
        file.write(line + "\n")
    assert told(archive) == [("malformed", f"{MANIFEST}:4")]


def test_a_manifest_with_other_line_ends_or_bytes_seals_nothing(archive):
    path = archive / MANIFEST
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert ("unreadable", "a.py") not in told(archive)
    assert ("unsealed", "a.py") in told(archive)
    path.write_bytes(b"\xff" * 70 + b"\n" + content)
    assert told(archive) == [("malformed", f"{MANIFEST}:1")]
    path.write_bytes(b"")
    assert told(archive)[0] == ("malformed", f"{MANIFEST}:1")


def test_a_name_that_is_listed_twice_is_told(archive):
    path = archive / MANIFEST
    path.write_text(path.read_text() + "0" * 64 + "  a.py\n")
    assert told(archive) == [("duplicated", "a.py")]
    assert inspect(archive).intact == ["b.ipynb", "sub/c.txt"]


def test_it_grows(archive):
    before = (archive / MANIFEST).read_text().splitlines()
    (archive / "aa.py").write_text("new")
    assert append(archive) == ["aa.py"]
    after = (archive / MANIFEST).read_text().splitlines()
    assert [line for line in after if line in before] == before
    assert [line.split("  ")[1] for line in after] == ["a.py", "aa.py", "b.ipynb", "sub/c.txt"]
    assert append(archive) == verify(archive) == []


@pytest.mark.parametrize("fault", ["changed", "missing", "malformed", "duplicated", "empty", "link"])
def test_it_does_not_grow_over_a_fault(fault, archive):
    manifest = archive / MANIFEST
    if fault == "changed":
        (archive / "a.py").write_text("other")
    elif fault == "missing":
        (archive / "a.py").unlink()
    elif fault == "link":
        (archive / "x").symlink_to("a.py")
    else:
        content = manifest.read_text()
        manifest.write_text({"malformed": content + "words\n", "duplicated": content * 2, "empty": ""}[fault])
    (archive / "new.py").write_text("new")
    before = manifest.read_bytes()
    with pytest.raises(
        SealError, match=r"the archive only grows, and it is not as it was sealed: .*Nothing was written"
    ):
        append(archive)
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", os.fsdecode(b"bytes\xff")])
def test_a_name_that_is_no_line_is_refused(name, archive):
    (archive / name).touch()
    with pytest.raises(SealError, match=r"cannot be a line of MANIFEST.sha256; rename the file"):
        append(archive)


def test_without_a_manifest_nothing_is_sealed_until_it_is_made(tmp_path):
    (tmp_path / "a.py").touch()
    assert told(tmp_path) == [("missing", MANIFEST), ("unsealed", "a.py")]
    assert append(tmp_path) == ["a.py"]
    assert verify(tmp_path) == []


def test_no_archive(tmp_path, monkeypatch):
    for call in (verify, append):
        with pytest.raises(SealError, match="is not there; give the folder of an archive"):
            call(tmp_path / "absent")
        (tmp_path / "file").touch()
        with pytest.raises(SealError, match="is a file; give the folder that holds it"):
            call(tmp_path / "file")
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(SealError, match="cannot be read: Is a directory"):
        verify(tmp_path)


def test_a_disk_that_is_full_leaves_the_old_seal(archive, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    (archive / "new.py").touch()
    before = (archive / MANIFEST).read_bytes()
    monkeypatch.setattr(seal, "write_atomic", full)
    with pytest.raises(SealError, match="cannot be written: No space left on device"):
        append(archive)
    assert (archive / MANIFEST).read_bytes() == before
