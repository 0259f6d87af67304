"""Golden key lists on disk: JSON a person can diff, one key a line, with a version; unknown versions and keys are refused.

    {"schema": "trialplate.keys/1", "models": ["pythia-70m"], "note": "...", "keys": {"embed_out.weight": ["F16", [50304, 512]], ...}}

A third element of an entry is the content digest; it is written for models whose weights are pinned, not for families of checkpoints."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.keys import KeyManifest, TensorInfo

SCHEMA = "trialplate.keys/1"
_FIELDS = {"schema", "models", "note", "keys"}


@dataclass(frozen=True, slots=True)
class GoldenKeys:
    """A golden manifest, the names of the models that it is for, and a note on where it came from."""

    models: tuple[str, ...]
    note: str
    keys: KeyManifest
    path: Path | None = None

    @property
    def has_content(self) -> bool:
        """Whether every key carries a content digest."""
        return all(info.content is not None for info in self.keys.values())


def write_golden(
    path: Path, models: Sequence[str], manifest: Mapping[str, TensorInfo], *, note: str = "", content: bool = False
) -> None:
    """Write a golden key list. Raises CheckpointError where there is nothing to write or a content digest is wanted and absent."""
    if not manifest or not models:
        raise CheckpointError(
            f"{path}: a golden key list needs at least one model name and one key, got {len(models)} and {len(manifest)}"
        )
    absent = [name for name, info in manifest.items() if content and info.content is None]
    if absent:
        raise CheckpointError(
            f"{path}: content was asked for, but {absent[0]!r} has no digest; read the manifest with content=True"
        )
    rows = []
    for name, info in sorted(manifest.items()):
        entry: list[object] = [info.dtype, list(info.shape)] + ([info.content] if content else [])
        rows.append(f"    {json.dumps(name)}: {json.dumps(entry)}")
    head = [
        f'  "schema": {json.dumps(SCHEMA)}',
        f'  "models": {json.dumps(list(models))}',
        f'  "note": {json.dumps(note)}',
    ]
    text = "{\n" + ",\n".join(head) + ',\n  "keys": {\n' + ",\n".join(rows) + "\n  }\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def read_golden(path: Path) -> GoldenKeys:
    """Read a golden key list. Raises CheckpointError for an unknown version or field, a duplicate key, or a malformed entry, naming it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_refuse_duplicates)
    except OSError as error:
        raise CheckpointError(
            f"no golden key list at {path}: {error.strerror}. Write one with --golden-update."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, _Duplicate) as error:
        raise CheckpointError(f"{path} is not a golden key list: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        got = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path} has schema {got!r}; this release reads {SCHEMA!r}. Read it with the release that wrote it, or write it again with --golden-update."
        )
    if unknown := sorted(content.keys() - _FIELDS):
        raise CheckpointError(f"{path} has the unknown field {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}")
    if lacking := sorted(_FIELDS - content.keys()):
        raise CheckpointError(f"{path} lacks the field {lacking[0]!r}")
    models, keys = content["models"], content["keys"]
    if not isinstance(models, list) or not models or not all(isinstance(name, str) for name in models):
        raise CheckpointError(f"{path}: models must be a list of at least one name, got {models!r}")
    if not isinstance(keys, dict) or not keys:
        raise CheckpointError(f"{path}: keys must be an object with at least one key")
    return GoldenKeys(
        tuple(models), str(content["note"]), {name: _entry(path, name, row) for name, row in keys.items()}, path
    )


def find_golden(folder: Path, model: str) -> GoldenKeys | None:
    """The golden key list of `folder` that names `model`, or None. Raises CheckpointError where two lists name it."""
    found = [golden for golden in map(read_golden, sorted(folder.glob("*.json"))) if model in golden.models]
    if len(found) > 1:
        raise CheckpointError(
            f"{found[0].path} and {found[1].path} are both for {model!r}: a model has one golden key list"
        )
    return found[0] if found else None


def golden_path(folder: Path, model: str) -> Path:
    """The file of `folder` that names `model`, or where one would be written."""
    found = find_golden(folder, model)
    return found.path if found and found.path else folder / f"{re.sub(r'[^0-9A-Za-z._@+-]+', '-', model)}.json"


class _Duplicate(ValueError):
    """A key that occurs twice in one JSON object."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise _Duplicate(f"the key {key!r} occurs twice")
        content[key] = value
    return content


def _entry(path: Path, name: str, row: object) -> TensorInfo:
    wanted = 'wanted [dtype, [sizes]] or [dtype, [sizes], content], as in ["F16", [512, 2048]]'
    if (
        not isinstance(row, list)
        or len(row) not in (2, 3)
        or not isinstance(row[0], str)
        or not isinstance(row[1], list)
    ):
        raise CheckpointError(f"{path}: {name!r} has the entry {row!r}; {wanted}")
    if not all(type(size) is int and size >= 0 for size in row[1]) or not (len(row) == 2 or isinstance(row[2], str)):
        raise CheckpointError(f"{path}: {name!r} has the entry {row!r}; {wanted}")
    return TensorInfo(row[0], tuple(row[1]), row[2] if len(row) == 3 else None)
