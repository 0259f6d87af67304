"""The folder of one study: `artifacts/YYYYMMDD-HHMMSS-<rand>-<description>/`. It has its name from the beginning to nobody but us, appears whole, and
says of itself what was measured, with what and how."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import trialplate
from trialplate.activations.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "trialplate-study/1"
PACKAGES = (
    "igraph",
    "leidenalg",
    "networkx",
    "numba",
    "numpy",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class StudyFolder:
    """A folder in the making: `path` is where files go, `final` the name that it takes at the end, `stem` what file names begin with."""

    path: Path
    final: Path
    stem: str

    def table(self, suffix: str, frame: pd.DataFrame, task: str = "") -> Path:
        """Write a CSV `<stamp>_<model>[_<task>]_<suffix>.csv`; undefined numbers are empty cells. Returns its place."""
        name = "_".join(part for part in (self.stem, file_name(task), suffix) if part)
        target = self.path / f"{name}.csv"
        frame.to_csv(target, index=False, lineterminator="\n", mode="x")
        return target

    def meta(self, content: Mapping[str, Any]) -> None:
        """Write meta.json: what the caller says, and when and with which versions it was made."""
        about = {"schema": SCHEMA, **content, "environment": environment()}
        text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False, default=str)
        with (self.path / "meta.json").open("x", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def study_folder(root: Path, model: str, description: str) -> Iterator[StudyFolder]:
    """A new folder under `root`, which takes its name when the block ends without an error and is removed otherwise.

    The name carries the second and six random digits, so two studies of one moment do not meet; one that exists is never written to."""
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}-{file_name(description)}"
    final, partial = root / name, root / f".{name}.partial"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise StoreError(
            f"no folder can be made under {root}: {error.strerror or error}. Choose another --output-dir"
        ) from error
    try:
        yield StudyFolder(partial, final, f"{now:%Y%m%d-%H%M%S}_{file_name(model)}")
        if final.exists():
            raise StoreError(f"{final} exists, and a study is never written over another")
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def file_name(text: str) -> str:
    """Text as part of a file name: letters, digits and . _ - stay."""
    return re.sub(r"[^0-9A-Za-z._-]+", "-", text).strip("-.")


def environment() -> dict[str, Any]:
    """Interpreter, machine, threads and the versions of what computes; no names of hosts or users."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "trialplate": trialplate.__version__,
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "packages": found,
    }
