"""Which files of a folder hold the weights, and whether it is safe to follow what an index says. Standard library only.

safetensors goes before torch pickles; a single file goes before an index. An index may name files of its own folder only."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trialplate.checkpoints.errors import CheckpointError

Format = Literal["safetensors", "torch"]
SUFFIXES: dict[str, Format] = {".safetensors": "safetensors", ".bin": "torch"}
_TORCH_STEM = {"model": "pytorch_model"}
# Other ways to store weights that people meet; named in the error so that nobody wonders why a full folder is "empty".
_OTHER = ("*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.npz")


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weight files of one checkpoint. `weight_map` (tensor -> file name) is what the index promises; empty without an index."""

    folder: Path
    format: Format
    files: tuple[Path, ...]
    index: Path | None = None
    weight_map: dict[str, str] = field(default_factory=dict)


def find_weights(path: Path, stem: str = "model") -> WeightFiles:
    """Weight files of a folder (or one weight file given by its path).

    `stem` is the name before the suffix: "model", or "adapter_model" for PEFT adapters.
    Raises CheckpointError where there is none, where an index is malformed, or where it points out of its folder."""
    if path.is_file():
        return _one_file(path)
    if not path.is_dir():
        raise CheckpointError(
            f"no checkpoint at {path}: wanted a folder with {stem}.safetensors, or a .safetensors or .bin file"
        )
    for name, weight_format in _candidates(stem):
        candidate = path / name
        if not candidate.is_file():
            continue
        if name.endswith(".json"):
            return _from_index(candidate, weight_format)
        return WeightFiles(path, weight_format, (_safe_member(path, name, candidate),))
    raise CheckpointError(_nothing_found(path, stem))


def has_weights(path: Path, stem: str = "model") -> bool:
    """Whether the folder has a file that `find_weights` would take."""
    return any((path / name).is_file() for name, _ in _candidates(stem))


def _candidates(stem: str) -> list[tuple[str, Format]]:
    torch_stem = _TORCH_STEM.get(stem, stem)
    return [
        (f"{stem}.safetensors", "safetensors"),
        (f"{stem}.safetensors.index.json", "safetensors"),
        (f"{torch_stem}.bin", "torch"),
        (f"{torch_stem}.bin.index.json", "torch"),
    ]


def _one_file(path: Path) -> WeightFiles:
    if path.name.endswith(".index.json"):
        return _from_index(path, "safetensors" if ".safetensors." in path.name else "torch")
    weight_format = SUFFIXES.get(path.suffix)
    if weight_format is None:
        raise CheckpointError(
            f"cannot read {path} as weights: wanted the suffix {' or '.join(SUFFIXES)}, got {path.suffix or 'none'!r}. Pickles of other kinds are refused: convert to safetensors."
        )
    return WeightFiles(path.parent, weight_format, (path,))


def _from_index(index: Path, weight_format: Format) -> WeightFiles:
    folder = index.parent
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{index} is not JSON: {error}. Fetch the checkpoint again.") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{index} has no weight_map: wanted an object that maps tensor names to file names. Fetch the checkpoint again."
        )
    for key, name in weight_map.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{index} maps {key!r} to {name!r}: wanted a file name")
    files = []
    for name in sorted(set(weight_map.values())):
        _refuse_escape(index, name)
        file = folder / name
        if not file.is_file():
            promised = sum(1 for value in weight_map.values() if value == name)
            raise CheckpointError(
                f"{index} promises {promised} tensors in {name}, which is not in {folder}. The download is incomplete: fetch the checkpoint again."
            )
        files.append(_safe_member(folder, name, index))
    return WeightFiles(folder, weight_format, tuple(files), index, dict(weight_map))


def _refuse_escape(index: Path, name: str) -> None:
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise CheckpointError(
            f"{index} names the weight file {name!r}: wanted a plain file name in its own folder. Such an index is not safe to follow."
        )


def _safe_member(folder: Path, name: str, named_by: Path) -> Path:
    """The file, provided that a symbolic link does not lead out of the folder; a hub cache may link to its own blobs."""
    file = folder / name
    target = file.resolve()
    home = folder.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    if not any(target.is_relative_to(place) for place in allowed):
        raise CheckpointError(
            f"{named_by}: {name} is a symbolic link to {target}, outside {home}. Copy the file into the folder if you trust it."
        )
    return file


def _nothing_found(path: Path, stem: str) -> str:
    wanted = ", ".join(name for name, _ in _candidates(stem))
    others = sorted(file.name for pattern in _OTHER for file in path.glob(pattern))
    found = (
        f"It has {', '.join(others[:4])}, which are not read: convert them to safetensors."
        if others
        else "It has no weight file of any known kind."
    )
    return f"no weights in {path}: wanted one of {wanted}. {found}"
