"""What a checkpoint file holds, read without running code from it: tensors, configuration, and whatever else it says.

A torch file is a container (`{"cfg": …, "model": {…}, "step": …}`, the tensors under one of four public names) or a bare state dict; a
safetensors file holds tensors, its configuration in its metadata. A file without a configuration takes it from a JSON file beside it."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from asa.checkpoint_keys import CheckpointError

Format = Literal["torch", "safetensors"]

_HOLDERS = ("model_state_dict", "state_dict", "model", "model_state")  # in this order; else the root
_CFG_NAMES = ("cfg", "config")
# What transformers writes into a config.json about the file and its use, not about the model.
_HF_FIELDS = {
    "_name_or_path", "architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id", "id2label",
    "is_encoder_decoder", "label2id", "model_type", "output_attentions", "output_hidden_states", "pad_token_id", "problem_type",
    "return_dict", "torch_dtype", "transformers_version", "use_cache", "variant",
}  # fmt: skip
# What the restricted unpickler raises on bytes that are no pickle, or a torn one.
_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint as stored: tensors by their stored names, configuration fields (None where nothing says any), and the rest.

    `holder` names the entry that held the tensors ("" = the root), `cfg_from` where the configuration came from, `fields` the other
    entries of the container."""

    path: Path
    format: Format
    state: dict[str, torch.Tensor]
    cfg: dict[str, Any] | None
    cfg_from: str
    holder: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int | None:
        """The training step that the container names, if it is a whole number."""
        step = self.fields.get("step")
        step = step.item() if isinstance(step, torch.Tensor) and step.numel() == 1 else step
        return step if isinstance(step, int) and not isinstance(step, bool) else None


def read_stored(path: str | Path, *, meta: bool = False) -> Stored:
    """Read a checkpoint file, or a folder with model.safetensors. `meta=True` reads names, dtypes and shapes, no numbers.

    Raises CheckpointError for a missing, empty, truncated or unsafe file, and for one that holds no tensors."""
    file = _the_file(Path(path))
    found = _read_safetensors(file, meta) if file.suffix == ".safetensors" else _read_torch(file, meta)
    if found.cfg is not None:
        return found
    cfg, source = _config_beside(file)
    return Stored(found.path, found.format, found.state, cfg, source, found.holder, found.fields)


def _the_file(path: Path) -> Path:
    file = path.expanduser()
    if file.is_dir():
        if (file / "model.safetensors").is_file():
            return file / "model.safetensors"
        names = sorted(entry.name for entry in file.iterdir())
        held = f"it holds {', '.join(names[:6])}{' …' if len(names) > 6 else ''}" if names else "it is empty"
        raise CheckpointError(
            f"{file} is a folder without model.safetensors ({held}): wanted a checkpoint file. Name the file itself"
        )
    if not file.is_file():
        raise CheckpointError(
            f"no checkpoint at {file.absolute()}: wanted a .pt or .safetensors file, got nothing of that name"
        )
    if file.stat().st_size == 0:
        raise CheckpointError(
            f"{file} is empty (0 bytes): the save or the download did not finish. Write or fetch it again"
        )
    return file


def _read_safetensors(file: Path, meta: bool) -> Stored:
    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
            names = list(opened.keys())
            state = {name: _meta_slice(opened, name) if meta else opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size
        raise CheckpointError(
            f"{file} ({size} bytes) is not a whole safetensors file: {error}. It is truncated or no checkpoint; write or fetch it again"
        ) from error
    if not state:
        raise CheckpointError(f"{file} holds no tensors: wanted the state dict of an ASM")
    fields = {name: _plain(text) for name, text in metadata.items() if name not in ("cfg", "format")}
    cfg = _parsed_config(metadata["cfg"], f"metadata of {file}") if "cfg" in metadata else None
    return Stored(file, "safetensors", state, cfg, f"metadata of {file.name}" if cfg is not None else "", "", fields)


def _meta_slice(opened: Any, name: str) -> torch.Tensor:
    part = opened.get_slice(name)
    empty = opened.get_tensor(name) if not part.get_shape() else part[:0]  # a scalar cannot be sliced
    return torch.empty(part.get_shape(), dtype=empty.dtype, device="meta")


def _read_torch(file: Path, meta: bool) -> Stored:
    mapped = zipfile.is_zipfile(file)  # the older layout of torch.save cannot be memory-mapped
    try:
        content = torch.load(file, map_location="meta" if meta else "cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unsafe(file, mapped)) from error
    except _DAMAGE as error:
        raise CheckpointError(
            f"{file} ({file.stat().st_size} bytes) is not a readable torch file: {_first_line(error)}. "
            f"It is truncated or no checkpoint; write or fetch it again"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{file} holds a {type(content).__name__}: wanted a checkpoint (a mapping with tensors under 'model')"
        )
    holder = next((name for name in _HOLDERS if _tensors(content.get(name))), "")
    state = _tensors(content[holder] if holder else content)
    if not state:
        names = ", ".join(map(repr, list(content)[:6])) or "nothing"
        raise CheckpointError(
            f"{file} holds no state dict: wanted tensors under {', '.join(_HOLDERS)} or at the root, got {names}"
        )
    rest = {str(name): value for name, value in content.items() if name != holder and name not in state}
    cfg_name = next((name for name in _CFG_NAMES if isinstance(rest.get(name), Mapping)), None)
    cfg = None if cfg_name is None else {str(name): value for name, value in rest.pop(cfg_name).items()}
    return Stored(file, "torch", state, cfg, "" if cfg_name is None else f"{cfg_name!r} of {file.name}", holder, rest)


def _tensors(found: object) -> dict[str, torch.Tensor]:
    """The tensors of a mapping by name; empty for anything else."""
    if not isinstance(found, Mapping):
        return {}
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _unsafe(file: Path, mapped: bool) -> str:
    names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file))) if mapped else []
    if mapped and not names:
        return f"{file} is damaged: its pickle cannot be read. Write or fetch it again"
    needs = f" ({', '.join(names[:4])})" if names else ""
    return (
        f"{file} is no torch file that can be read without running code{needs}: wanted tensors and plain values only. "
        f"Load it where you trust it, and save it with cfg as a dict, or as safetensors"
    )


def _config_beside(file: Path) -> tuple[dict[str, Any] | None, str]:
    for name in (f"{file.stem}.json", f"{file.name}.json", "config.json", "cfg.json"):
        beside = file.with_name(name)
        if beside.is_file():
            try:
                text = beside.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise CheckpointError(f"the configuration {beside} cannot be read: {error}") from error
            return _parsed_config(text, str(beside)), name
    return None, ""


def _parsed_config(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"the configuration in {where} is not JSON: {error}") from error
    inner = next(
        (content[name] for name in _CFG_NAMES if isinstance(content, dict) and isinstance(content.get(name), dict)),
        content,
    )
    if not isinstance(inner, dict):
        raise CheckpointError(
            f"the configuration in {where} is a {type(inner).__name__}: wanted an object with the fields of a model"
        )
    model_type = inner.get("model_type")
    if model_type is None:
        return inner
    if model_type != "asm":
        raise CheckpointError(f"the configuration in {where} is of a {model_type!r} model: wanted model_type 'asm'")
    return {name: value for name, value in inner.items() if name not in _HF_FIELDS}


def _plain(text: str) -> Any:
    """A value of safetensors metadata, which are texts: JSON where it is JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
