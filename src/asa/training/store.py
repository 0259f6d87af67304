"""Checkpoints on disk: `last.pt`, `best.pt`, and the last few steps; each whole, with its SHA-256 beside it.

A manifest lists what this store has written, by name and digest. Nothing else is ever replaced or removed: before either, the file at
hand is compared with the manifest. A new digest is announced in the manifest before its file takes its place, so that a process that
dies in between leaves a file that is still known.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from asa.utils.files import sha256_of, write_atomic

MANIFEST = "manifest.json"
SCHEMA = 1
LAST, BEST = "last.pt", "best.pt"
STEP = re.compile(r"step-\d{8,}\.pt")


class StoreError(RuntimeError):
    """A checkpoint folder or file that is not what this store wrote."""


class CheckpointStore:
    """The checkpoints of one run, in a folder of its own. `keep` step files stay beside last and best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep
        folder.mkdir(exist_ok=True)
        self._written = _read_manifest(folder / MANIFEST)
        self.left_alone: list[str] = []
        """Files that were due to be removed and are not those that were written; they stay, and are no longer counted."""

    def save(self, container: Mapping[str, Any], *, step: int | None = None, best: bool = False) -> None:
        """Write the container as `last.pt`, as the file of a step (then older ones beyond `keep` go), or as `best.pt`.

        StoreError, before anything is written, if a file would be replaced that the store did not write."""
        stepped = [_step_name(step)] if step is not None and self._keep else []
        names = ([LAST] if step is not None else []) + stepped + ([BEST] if best else [])
        for name in names:
            self._require_ours(name)
        data = _packed(container)
        for name in names:
            self._write(name, data)
        self._prune()

    def load(self, name: str = LAST) -> dict[str, Any]:
        """A container that this store wrote, tensors on the CPU. StoreError if it is absent or has changed."""
        path = self.folder / name
        if not path.is_file():
            raise StoreError(
                f"no checkpoint {path}: the run ended before its first one. Start it anew in another folder."
            )
        if sha256_of(path) not in self._written.get(name, []):
            raise StoreError(
                f"{path} is not the file that the run wrote (its SHA-256 is not in {MANIFEST}). "
                f"Put the original back, or copy another checkpoint of the run there together with its manifest entry."
            )
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return loaded

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        digest = hashlib.sha256(data).hexdigest()
        self._record(name, [*self._written.get(name, []), digest])
        write_atomic(path, data)
        write_atomic(_sidecar(path), _sidecar_text(name, digest))
        self._record(name, [digest])

    def _prune(self) -> None:
        """Remove the oldest step files beyond `keep`: those of the manifest that are on disk as they were written."""
        steps = sorted((name for name in self._written if STEP.fullmatch(name)), key=lambda name: (len(name), name))
        for name in steps[: max(0, len(steps) - self._keep)]:
            path = self.folder / name
            if path.is_file() and sha256_of(path) not in self._written[name]:
                self.left_alone.append(name)
            else:
                self._remove(path)
            self._record(name, [])

    def _remove(self, path: Path) -> None:
        sidecar = _sidecar(path)
        known = [_sidecar_text(path.name, digest) for digest in self._written[path.name]]
        if sidecar.is_file() and sidecar.read_bytes() in known:
            sidecar.unlink()
        path.unlink(missing_ok=True)

    def _require_ours(self, name: str) -> None:
        path = self.folder / name
        if (path.exists() or path.is_symlink()) and not (
            path.is_file() and sha256_of(path) in self._written.get(name, [])
        ):
            raise StoreError(
                f"{path} was not written by this run, or was changed since (its SHA-256 is not in {MANIFEST}); "
                f"it is not replaced. Move it away and resume."
            )

    def _record(self, name: str, digests: list[str]) -> None:
        if digests:
            self._written[name] = digests
        else:
            self._written.pop(name, None)
        text = json.dumps({"schema": SCHEMA, "written": self._written}, indent=2, sort_keys=True) + "\n"
        write_atomic(self.folder / MANIFEST, text.encode())


def _step_name(step: int) -> str:
    return f"step-{step:08d}.pt"


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sidecar_text(name: str, digest: str) -> bytes:
    """What `sha256sum -c` reads."""
    return f"{digest}  {name}\n".encode()


def _packed(container: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(container), buffer)
    return buffer.getvalue()


def _read_manifest(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise StoreError(
                f"{path} has schema {found['schema']}, this release reads {SCHEMA}; resume with its release"
            )
        return {str(name): list(map(str, digests)) for name, digests in found["written"].items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is not a manifest of checkpoints ({error}); the run cannot be resumed") from error
