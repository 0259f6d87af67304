"""Case ids: a case is named by its file under the folder of evals and its parameters, whatever the root directory of the run is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from trialplate.plugin import keys, options


def case_id(nodeid: str, config: pytest.Config) -> str:
    """The id of a case from its node id; under no folder of evals it is the node id itself."""
    path, sep, rest = nodeid.partition("::")
    known = config.stash.setdefault(keys.CASE_FILES, {})
    if path not in known:
        named = _relative(config.rootpath / path, options.evals_folders(config)) or path
        known[path] = named.encode("utf-8", "backslashreplace").decode()  # a file name need not be UTF-8, a report must
    return known[path] + sep + rest


def source_digest(nodeid: str, config: pytest.Config) -> str:
    """SHA-256 of the file that defines a case; empty where it is no file."""
    name = nodeid.partition("::")[0]
    known = config.stash.setdefault(keys.SOURCES, {})
    if name not in known:
        path = config.rootpath / name
        known[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return known[name]


def _relative(path: Path, evals: list[Path]) -> str | None:
    # as it was called first: inside a folder of evals a linked file keeps the name of the link
    for full in (Path(os.path.normpath(path)), path.resolve()):
        for folder in evals:
            if full.is_relative_to(folder):
                return full.relative_to(folder).as_posix()
    return None


def case_seed(seed: int, case: str) -> int:
    """The seed of a case, from the run's seed and the case's id: adding a case changes no other."""
    digest = hashlib.sha256(f"{seed}:{case}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
