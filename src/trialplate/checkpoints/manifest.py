"""Reading the key manifest of a checkpoint from headers: no weight is loaded unless its content digest is asked for."""

from collections.abc import Mapping
from pathlib import Path

import torch

from trialplate.checkpoints.digest import file_contents, with_content
from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.files import Format, WeightFiles, find_weights
from trialplate.checkpoints.keys import KeyManifest, TensorInfo
from trialplate.checkpoints.tensors import iter_file, load_torch_file, open_safetensors, tensor_info


def read_manifest(path: Path | WeightFiles, *, content: bool = False, transposed: bool = False) -> KeyManifest:
    """Keys of a folder, a weight file, or an index with its shards: name -> dtype and shape.

    `content=True` reads the tensors too and adds their digests; `transposed=True` adds, for matrices, the digest of the transpose.
    Raises CheckpointError for a missing, damaged or unsafe file, and where an index and its shards disagree."""
    weights = path if isinstance(path, WeightFiles) else find_weights(path)
    manifest: KeyManifest = {}
    home: dict[str, str] = {}
    for file in weights.files:
        part = _read_file(file, weights.format, content, transposed)
        for name in part.keys() & manifest.keys():
            raise CheckpointError(
                f"{name!r} is stored twice, in {home[name]} and in {file.name} of {weights.folder}: which one counts cannot be told"
            )
        manifest.update(part)
        home.update(dict.fromkeys(part, file.name))
    if not manifest:
        raise CheckpointError(f"{weights.files[0]} holds no tensors")
    _check_index(weights, home)
    return manifest


def state_manifest(state: Mapping[str, torch.Tensor], *, content: bool = False) -> KeyManifest:
    """Keys of a state_dict in memory (any device)."""
    return {name: with_content(tensor) if content else tensor_info(tensor) for name, tensor in state.items()}


def _read_file(file: Path, weight_format: Format, content: bool, transposed: bool) -> KeyManifest:
    if transposed:
        return {name: with_content(tensor, transposed=True) for name, tensor in iter_file(file, weight_format)}
    if content:
        return dict(file_contents(file, weight_format))
    return _file_manifest(file, weight_format)


def _file_manifest(file: Path, weight_format: Format) -> KeyManifest:
    if weight_format == "torch":
        return {name: tensor_info(tensor) for name, tensor in load_torch_file(file, meta=True).items()}
    manifest: KeyManifest = {}
    with open_safetensors(file) as opened:
        for name in opened.keys():  # noqa: SIM118 - not a dict
            part = opened.get_slice(name)
            manifest[name] = TensorInfo(str(part.get_dtype()), tuple(part.get_shape()))
    return manifest


def _check_index(weights: WeightFiles, home: dict[str, str]) -> None:
    if weights.index is None:
        return
    absent = sorted(name for name, file in weights.weight_map.items() if home.get(name) != file)
    if absent:
        got = home.get(absent[0])
        where = f"it is in {got}" if got else "no shard has it"
        raise CheckpointError(
            f"{weights.index} promises {absent[0]!r} in {weights.weight_map[absent[0]]}, but {where} ({len(absent)} such keys). Fetch the checkpoint again."
        )
    extra = sorted(home.keys() - weights.weight_map.keys())
    if extra:
        raise CheckpointError(
            f"{weights.index} does not know {len(extra)} stored tensors, first {extra[0]!r} in {home[extra[0]]}. Index and shards are of different saves."
        )
