"""Which code measured: one digest over sources, for reports and for the manifests of studies."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

import trialplate


def tree_digest(folders: list[Path]) -> str:
    """SHA-256 over relative names and contents of the Python and TOML files of some folders."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml") and p.is_file()):
            total.update(
                os.fsencode(path.relative_to(folder).as_posix()) + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
    return total.hexdigest()


@cache  # what this process imported, whatever the files say later
def package_digest() -> str:
    """`tree_digest` of this package."""
    return tree_digest([Path(trialplate.__file__).parent])
