"""The folder of a probe: it appears whole or not at all, and never in the place of another."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trialplate.routing.errors import ProbeError


def write_folder(outdir: Path, files: Mapping[str, bytes]) -> None:
    """Write files beside `outdir` and move them into place in one step. Raises ProbeError if anything of that name exists, OSError if
    the disk refuses; then nothing is left."""
    outdir.parent.mkdir(parents=True, exist_ok=True)
    temporary = outdir.parent / f".{outdir.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        for name, data in files.items():
            with (temporary / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        refuse_existing(outdir)
        outdir.mkdir()  # exclusive; the rename then takes the place of this empty folder in one step
        temporary.replace(outdir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(outdir: Path) -> None:
    """Raises ProbeError if `outdir` exists: to be asked before minutes are spent."""
    if outdir.exists() or outdir.is_symlink():
        raise ProbeError(f"{outdir} exists, and a probe is never written over another; give a new --outdir")


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Indented JSON; ValueError for NaN and infinity, which JSON does not have."""
    return (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
