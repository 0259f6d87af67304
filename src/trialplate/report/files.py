"""Files that are either the old ones or the new ones, never a mixture: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step. On any failure before that step the old file stays and the temporary one is removed.

    Raises OSError; also when the step was taken and the file system does not promise that it lasts.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # there only where a step failed, or Ctrl-C came between
    sync_folder(path.parent)


def point_latest(folder: Path) -> None:
    """Let `latest` beside `folder` name it, in one step. A file or folder of that name is refused, not removed."""
    link = folder.parent / "latest"
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} is not a link of ours; move it away or give another --report")
    temporary = link.with_name(f".latest.{secrets.token_hex(4)}.tmp")
    try:
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename durable. Raises OSError when the file system cannot promise it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
