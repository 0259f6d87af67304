"""Case ids: a case is named by its file under the folder of evals and its parameters, whatever the root directory of the run is."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

import pytest

from trialplate.plugin import options


def case_id(nodeid: str, config: pytest.Config) -> str:
    """The id of a case from its node id; under no folder of evals it is the node id itself."""
    path, sep, rest = nodeid.partition("::")
    return _relative(path, config.rootpath, tuple(options.evals_folders(config))) + sep + rest


def source_digest(nodeid: str, config: pytest.Config) -> str:
    """SHA-256 of the file that defines a case; empty where it is no file."""
    return _file_digest(config.rootpath / nodeid.partition("::")[0])


@cache
def _relative(path: str, rootpath: Path, evals: tuple[Path, ...]) -> str:
    # normpath, not resolve: a linked folder of evals keeps the name it was called by
    full = Path(os.path.normpath(rootpath / path))
    for folder in evals:
        if full.is_relative_to(folder):
            return full.relative_to(folder).as_posix()
    return path


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def case_seed(seed: int, case: str) -> int:
    """The seed of a case, from the run's seed and the case's id: adding a case changes no other."""
    digest = hashlib.sha256(f"{seed}:{case}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
