"""Content names weights: sha256 of each tensor as stored, and one digest over all of them that does not care about files, order or shards."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from trialplate.checkpoints.files import Format, WeightFiles, find_weights
from trialplate.checkpoints.keys import KeyManifest, TensorInfo, content_digest
from trialplate.checkpoints.tensors import iter_file, tensor_info

# (path, size, mtime_ns) -> manifest with contents, so that one process hashes a file once however many cases ask.
_REMEMBERED: dict[tuple[str, int, int], KeyManifest] = {}


def tensor_digest(tensor: torch.Tensor) -> str:
    """sha256 (hex) of the tensor's row-major bytes, on whatever device it lies. Dtype and shape are not covered: they stand beside it."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def with_content(tensor: torch.Tensor, *, transposed: bool = False) -> TensorInfo:
    """Dtype, shape and content of a tensor; on request, for a matrix, also the content of its transpose, by which a transposition is recognised."""
    info = tensor_info(tensor)
    turned = tensor_digest(tensor.detach().T) if transposed and tensor.dim() == 2 else None
    return TensorInfo(info.dtype, info.shape, tensor_digest(tensor), turned)


def file_contents(file: Path, weight_format: Format) -> KeyManifest:
    """Manifest with contents of one weight file, remembered in this process as long as path, size and modification time are the same."""
    target = file.resolve()
    stat = target.stat()
    key = (str(target), stat.st_size, stat.st_mtime_ns)
    if key not in _REMEMBERED:
        _REMEMBERED[key] = {name: with_content(tensor) for name, tensor in iter_file(file, weight_format)}
    return _REMEMBERED[key]


def weights_digest(path: Path | WeightFiles) -> str:
    """Digest of the weights of a folder or file: names, dtypes, shapes and bytes as stored, sorted by name.

    Equal for equal tensors however they are ordered, sharded, or wrapped (safetensors or torch file). Raises CheckpointError for unreadable files."""
    weights = path if isinstance(path, WeightFiles) else find_weights(path)
    everything: KeyManifest = {}
    for file in weights.files:
        everything.update(file_contents(file, weights.format))
    return content_digest(everything)


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """The same digest for tensors in memory, for instance the state_dict of a user's own model."""
    return content_digest({name: with_content(tensor) for name, tensor in state.items()})
