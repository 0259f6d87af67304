"""A folder of files that appears whole or not at all, and never in the place of another."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trialplate.report.files import sync_folder
from trialplate.sae.errors import FormatError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A place to write files in, which becomes `folder` when the block ends without an error and is removed otherwise.

    Files lie on the disk before the name appears. FormatError where anything of that name exists, OSError where the disk refuses."""
    _refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        sync_folder(temporary)
        _refuse_existing(folder)
        folder.mkdir()  # exclusive; the rename then takes the place of this empty folder in one step
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(folder.parent)


def _refuse_existing(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise FormatError(f"{folder} exists, and a coder is never written over another; give a new folder")
