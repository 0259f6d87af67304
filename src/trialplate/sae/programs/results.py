"""Result files of studies: what they hold, how their configuration is hashed, and a reader that believes nothing it can check.

    {"schema": "trialplate-coder-study/1", "role", "run", "created", "subject": {digests of coders, rows, model}, "config", "config_hash", "result": {...}}

A result is named after its role (`phase4a.json`) and lies beside `manifest.json`, which has the sha256 of every file of the run. Estimates are
{"value", "n", "stderr", "ci", "level", "method"}. There is no NaN and no infinity in any of these files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from trialplate.sae.errors import StudyError

SCHEMA = "trialplate-coder-study/1"
MANIFEST_SCHEMA = "trialplate-coder-manifest/1"
MANIFEST = "manifest.json"
ROLES: Mapping[str, str] = {
    "phase4a": "stability of trained coders against random and untrained ones",
    "ablation": "stability and quality over k and width",
    "l0_calibration": "the k that a floor of quality and stability choose",
    "assignment": "what pulling coders to a reference does to stability between families",
    "frontier": "architectures at one L0",
    "scaling": "error over token budget and width",
    "transcoder": "stability of transcoders against autoencoders",
    "ood": "probes moved to other texts",
    "circuit": "recovery of a known circuit",
    "external": "official benchmark packages",
    "eval": "quality of one coder",
    "stability": "stability of given coders",
    "training": "coders that were trained",
}
"""Roles of results, and with `.json` the names of their files."""
_KEYS = {"schema", "role", "run", "created", "subject", "config", "config_hash", "result"}
_MANIFEST_KEYS = {
    "schema", "run", "role", "status", "command", "config_hash", "code_sha256", "started", "finished", "seconds", "steps", "files", "environment",
}  # fmt: skip
_STEP_KEYS = {"name", "argv", "returncode", "log", "seconds"}


def plain(value: Any, where: str = "$") -> Any:
    """The same as JSON has it: dataclasses (Estimates too) and named tuples become objects, tuples and arrays lists, numpy scalars numbers.

    where: the place that an error names. StudyError for NaN and infinity, for keys that are not text, and for whatever JSON has no form for;
    paths among these: a place on one machine says nothing on another, so it belongs to the command, not to a configuration or a result."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise StudyError(
                f"{where} is {value}: results hold finite numbers only. Find what made it, or say in words that nothing was measured"
            )
        return float(value)
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return plain(fields, where)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # a named tuple keeps its names
        return plain(value._asdict(), where)
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise StudyError(f"{where} has the key {wrong[0]!r}: keys of results are text")
        return {key: plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    raise StudyError(f"{where} is a {type(value).__name__}, which a result cannot hold; hand over numbers, text, lists")


def config_hash(config: Any) -> str:
    """sha256 (hex) of a configuration in canonical JSON: sorted keys, no spaces. Equal wherever it is computed, because no path can be in it."""
    text = json.dumps(plain(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def json_bytes(content: Any) -> bytes:
    """Indented JSON of plain data, one line break at the end."""
    return (json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_result(path: Path | str, role: str) -> dict[str, Any]:
    """The result of a role from the folder of its run, or from the file itself.

    Checked: schema, role and keys; no NaN; the configuration's hash; that the manifest beside it is of a finished run whose steps all returned 0;
    that every file is there and is what the manifest says. StudyError for the first that does not hold: then it is no evidence."""
    file = _named(Path(path), role)
    found = _object(file)
    _require(found.get("schema") == SCHEMA, f"{file}: wanted schema {SCHEMA}, got {found.get('schema')!r}")
    _require(found.get("role") == role, f"{file}: wanted the role {role}, got {found.get('role')!r}")
    _keys(file, found, _KEYS)
    _require(bool(found["subject"]), f"{file} does not say of which coders it is: its subject is empty")
    manifest = read_manifest(file.parent)
    for key in ("run", "role", "config_hash"):
        _require(manifest[key] == found[key], f"{file} and its manifest disagree about the {key}")
    _require(
        config_hash(found["config"]) == found["config_hash"],
        f"{file}: the configuration is not the one that was hashed",
    )
    _require(file.name in manifest["files"], f"{file} is not in the manifest of its run")
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run, after every file was compared with it. StudyError as `read_result`."""
    path = folder / MANIFEST
    manifest = _object(path)
    _require(
        manifest.get("schema") == MANIFEST_SCHEMA,
        f"{path}: wanted schema {MANIFEST_SCHEMA}, got {manifest.get('schema')!r}",
    )
    _keys(path, manifest, _MANIFEST_KEYS)
    _require(
        manifest["status"] == "finished", f"{path}: this run ended as {manifest['status']!r}, so it is no evidence"
    )
    _require(manifest["started"] <= manifest["finished"], f"{path}: the run ended before it began")
    _check_files(folder, manifest["files"])
    for step in manifest["steps"]:
        _keys(path, step, _STEP_KEYS)
        code = step["returncode"]
        _require(type(code) is int and code == 0, f"{path}: step {step['name']!r} returned {code}")
        _require(step["log"] in manifest["files"], f"{path}: step {step['name']!r} has no log")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, entry in files.items():
        file = folder / name
        _keys(file, entry, {"sha256", "bytes"})
        _require(file.is_file(), f"{folder}: {name} is in the manifest and not in the folder")
        differs = f"{file} is not what was written: its sha256 differs from the manifest's"
        _require(file_digest(file) == entry["sha256"], differs)


def _named(path: Path, role: str) -> Path:
    if role not in ROLES:
        raise StudyError(f"there is no role {role!r}; roles are {', '.join(ROLES)}")
    return path / f"{role}.json" if path.is_dir() else path


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read as the file of a study: {error}") from error
    if not isinstance(found, dict):
        raise StudyError(f"{path}: wanted an object, got {type(found).__name__}")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number that a result may hold")


def _keys(path: Path, found: Any, wanted: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise StudyError(f"{path}: wanted an object with {', '.join(sorted(wanted))}, got {type(found).__name__}")
    if wrong := sorted(set(found) ^ wanted):
        raise StudyError(f"{path}: missing or unknown keys: {', '.join(wrong)}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StudyError(otherwise)
