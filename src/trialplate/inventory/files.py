"""Which files of a folder are looked at: *.py and *.ipynb, in the order of their names. Links to folders are not followed, so no link can loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".ipynb", ".py")
LARGEST = 64 * 2**20
"""Bytes. A larger file is named and not read."""


class FolderError(Exception):
    """The folder to scan is none, or cannot be read; the message says what to give."""


class Listed(NamedTuple):
    """A file by its name below the folder; `problem` says why it cannot be read."""

    name: str
    path: Path
    problem: str = ""


def listed(folder: Path) -> list[Listed]:
    """Notebooks and scripts below a folder, and folders that cannot be read. Hidden names, __pycache__ and virtual environments are left out."""
    try:
        if not folder.is_dir():
            is_file = folder.exists()
            got = (
                "is a file; give the folder that holds it"
                if is_file
                else "is not there; give a folder of notebooks and scripts"
            )
            raise FolderError(f"{folder} {got}")
        os.scandir(folder).close()
    except OSError as e:
        raise FolderError(f"{folder} cannot be read: {e.strerror or e}") from e
    found = []

    def unreadable(e: OSError) -> None:
        place = Path(e.filename)
        found.append(Listed(_name(place, folder) + "/", place, f"cannot be read: {e.strerror or e}"))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        if "pyvenv.cfg" in files and Path(place) != folder:
            folders.clear()
            continue
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__pycache__"]
        for file in files:
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith("."):
                path = Path(place, file)
                found.append(Listed(_name(path, folder), path, _problem(path)))
    return sorted(found)


def _name(path: Path, folder: Path) -> str:
    # the bytes of a file name need not be UTF-8; a table must
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _problem(path: Path) -> str:
    try:
        size = path.stat().st_size
    except OSError as e:
        return ("a link that leads nowhere" if path.is_symlink() else "cannot be read") + f": {e.strerror or e}"
    if not path.is_file():
        return "no regular file"
    if size > LARGEST:
        return f"{size / 2**20:.0f} MiB; files of more than {LARGEST / 2**20:.0f} MiB are not read"
    return ""
