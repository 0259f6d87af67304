"""From a name to a folder on this machine. No torch, and no network unless `online`.

A name is, in this order: `embedded:…`; a path (it starts with `.`, `/` or `~`, or is an existing folder and no catalogue name, or ends like a
checkpoint file); a catalogue name; a hub id `org/name`. A folder that shares its name with a catalogue entry is reached as `./name`.

A path leads to a folder that transformers reads (config.json with a model_type), or to a checkpoint file of an Addressed State Model, by itself
or as the only one of its folder."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trialplate.checkpoints.files import has_weights
from trialplate.models import hub
from trialplate.models.catalog import (
    CATALOG,
    EMBEDDED,
    EMBEDDED_RANDOM,
    EMBEDDED_STORED,
    catalog_entry,
    nearest_names,
    unknown_step,
)
from trialplate.models.errors import AdapterError, ModelNotFound
from trialplate.models.spec import ModelSpec

Kind = Literal["embedded", "folder", "file", "hub", "factory"]
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files are. `random_seed` is set for a model whose weights are drawn, not stored. `commit` is the hub commit, 40 hex digits.

    `checkpoint` is the weight file of an Addressed State Model that is not laid out for transformers; `path` is then its folder."""

    kind: Kind
    path: Path
    hub_id: str | None = None
    revision: str | None = None
    commit: str | None = None
    random_seed: int | None = None
    checkpoint: Path | None = None


def resolve(spec: ModelSpec, online: bool = False, *, weights: bool = True) -> Source:
    """Find the files of a model. `weights=False` is content with configuration and tokenizer.

    Raises ModelNotFound saying what was asked, where it was looked for, and how to get it."""
    if spec.name.startswith("embedded:"):
        return _embedded(spec)
    if _is_path(spec.name) or spec.name.endswith(_CHECKPOINTS):
        return _local(spec, weights)
    entry = catalog_entry(spec.name)
    if entry is None and not HUB_ID.fullmatch(spec.name):
        raise ModelNotFound(_unknown_name(spec))
    if entry is not None and spec.revision and (reason := unknown_step(entry, spec.revision)):
        raise ModelNotFound(reason)
    return _hub(spec, entry.hub_id if entry else spec.name, online, weights)


def resolve_adapter(name: str, online: bool = False) -> Path:
    """Find the folder of a PEFT adapter: a path, or a hub id in the cache. Raises AdapterError."""
    if _is_path(name) or not HUB_ID.fullmatch(name):
        folder = Path(name).expanduser()
    elif online:
        folder = hub.download(name, None)
    else:
        cached = hub.cached_snapshot(name, None, marker="adapter_config.json")
        if cached is None:
            raise AdapterError(
                f"no adapter {name!r}: there is no folder of that name under {Path.cwd()}, and the hub cache {hub.cache_folder()} does not have it. "
                f"Get it with `{hub.download_command(name, None)}`, or run with --online."
            )
        folder = cached
    if not folder.is_dir():
        raise AdapterError(
            f"no adapter at {folder}: wanted a folder with adapter_config.json and adapter_model.safetensors"
        )
    if not (folder / "adapter_config.json").is_file():
        raise AdapterError(f"{folder} is not an adapter: it has no adapter_config.json ({_listing(folder)})")
    return folder


def _is_path(name: str) -> bool:
    if name.startswith((".", "/", "~")) or Path(name).is_absolute():
        return True
    return name not in CATALOG and Path(name).is_dir()


def _embedded(spec: ModelSpec) -> Source:
    if spec.name not in EMBEDDED:
        raise ModelNotFound(f"no embedded model {spec.name!r}: wanted one of {', '.join(EMBEDDED)}")
    _refuse_revision(spec, "an embedded model")
    stored, seed = EMBEDDED_RANDOM.get(spec.name, (spec.name, None))
    folder = EMBEDDED_FOLDER / stored.removeprefix("embedded:")
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"the files of {stored} are not in {folder}: the installation is incomplete. Install trialplate again."
        )
    return Source("embedded", folder, random_seed=seed)


def _local(spec: ModelSpec, weights: bool) -> Source:
    path = Path(spec.name).expanduser()
    if path.is_dir():
        return _folder(spec, path, weights)
    if path.suffix in _CHECKPOINTS:
        if not path.is_file():
            raise ModelNotFound(
                f"no checkpoint file at {path.absolute()}: wanted a checkpoint of an Addressed State Model, got nothing"
            )
        _refuse_revision(spec, "a file")
        return Source("file", path.parent, checkpoint=path)
    got = "a file" if path.exists() else "nothing"
    raise ModelNotFound(
        f"no model folder at {path.absolute()}: wanted a folder with config.json, weights and tokenizer, or a checkpoint file "
        f"({', '.join(_CHECKPOINTS)}), got {got}"
    )


def _folder(spec: ModelSpec, folder: Path, weights: bool) -> Source:
    _refuse_revision(spec, "a folder")
    if not _is_for_transformers(folder) and (checkpoint := _only_checkpoint(folder)) is not None:
        return Source("folder", folder, checkpoint=checkpoint)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"{folder} is an adapter, not a model: name its base with --model and the folder with --adapter"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"{folder} has no config.json, so it is not a model folder ({_listing(folder)}). Save the model with save_pretrained, or name another folder."
        )
    if weights and not has_weights(folder):
        raise ModelNotFound(
            f"{folder} has config.json and no weights: wanted model.safetensors or its index, or pytorch_model.bin ({_listing(folder)}){_run_hint(folder)}"
        )
    return Source("folder", folder)


def _is_for_transformers(folder: Path) -> bool:
    """Whether config.json names an architecture of transformers; one that cannot be read is left to the loader, which says so."""
    file = folder / "config.json"
    if not file.is_file():
        return False
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return True
    return not isinstance(content, dict) or "model_type" in content


def _only_checkpoint(folder: Path) -> Path | None:
    """The checkpoint file of a folder that holds one. Raises ModelNotFound for several: which one is meant cannot be told."""
    has_config = (
        folder / "config.json"
    ).is_file()  # without one, model.safetensors is half of a folder for transformers
    files = [
        file for file in folder.iterdir() if file.suffix in _CHECKPOINTS and not file.name.startswith("adapter_model")
    ]
    found = sorted(file for file in files if has_config or not file.name.startswith("model"))
    if len(found) > 1:
        raise ModelNotFound(
            f"{folder} holds {len(found)} checkpoints ({', '.join(file.name for file in found[:5])}{' …' if len(found) > 5 else ''}): name the file that is meant"
        )
    return found[0] if found else None


def _hub(spec: ModelSpec, hub_id: str, online: bool, weights: bool) -> Source:
    folder = hub.cached_snapshot(hub_id, spec.revision)
    if online and (folder is None or (weights and not has_weights(folder))):
        folder = hub.download(hub_id, spec.revision, weights=weights)
    if folder is None or (weights and not has_weights(folder)):
        raise ModelNotFound(_not_cached(spec, hub_id, folder))
    commit = folder.name if _COMMIT.fullmatch(folder.name) else None
    return Source("hub", folder, hub_id, spec.revision or "main", commit)


def _refuse_revision(spec: ModelSpec, what: str) -> None:
    if spec.revision is not None:
        raise ModelNotFound(
            f"{spec.name} is {what} and has no revisions, got --revision {spec.revision}. Leave it out, or name a hub model."
        )


def _unknown_name(spec: ModelSpec) -> str:
    near = nearest_names(spec.name)
    nearest = f"nearest: {', '.join(near)}" if near else f"{len(CATALOG)} names"
    return (
        f"no model {spec.label!r}. Looked for an embedded model ({', '.join(EMBEDDED_STORED)} …), a folder {Path(spec.name).absolute()}, "
        f"and a catalogue name ({nearest}). A hub id is written org/name, a folder ./name."
    )


def _not_cached(spec: ModelSpec, hub_id: str, folder: Path | None) -> str:
    what = f"{hub_id} at revision {spec.revision or 'main'}"
    if folder is not None:
        found = f"the hub cache has the configuration of {what} and not its weights ({folder})"
    else:
        others = hub.cached_revisions(hub_id)
        also = f", which has revision {', '.join(others[:5])} of it" if others else ""
        found = f"{what} is not in the hub cache {hub.cache_folder()}{also}"
    near = [name for name in nearest_names(hub_id) if CATALOG.get(name) and CATALOG[name].hub_id != hub_id]
    hint = (
        ""
        if catalog_entry(hub_id) or not near
        else f" There is no folder {Path(hub_id).absolute()} either; nearest catalogue names: {', '.join(near)}."
    )
    return f"{found}. Get it with `{hub.download_command(hub_id, spec.revision)}`, or run with --online.{hint}"


def _run_hint(folder: Path) -> str:
    """Where the checkpoints of a training run are."""
    found = sorted((folder / "checkpoints").glob("*.pt"))
    return f". Name a checkpoint of it, such as {found[0]}" if found else ""


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"it has {', '.join(names[:6])}{' …' if len(names) > 6 else ''}" if names else "it is empty"
