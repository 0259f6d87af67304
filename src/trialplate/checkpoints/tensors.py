"""Walking over the tensors of weight files, one at a time: safetensors by memory map, torch files with weights_only. Never runs code from a file."""

import json
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from trialplate.checkpoints.errors import CheckpointError
from trialplate.checkpoints.files import Format, WeightFiles
from trialplate.checkpoints.keys import TensorInfo

_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself

DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# What the restricted unpickler raises on bytes that are no pickle, or a torn one.
DAMAGE = (
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


def tensor_info(tensor: torch.Tensor) -> TensorInfo:
    """Dtype and shape of a tensor in memory, without content."""
    return TensorInfo(DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))


def iter_tensors(weights: WeightFiles) -> Iterator[tuple[str, torch.Tensor]]:
    """Every stored (name, tensor on the CPU), file by file. Memory stays at one tensor for safetensors, at one mapped file for torch files.

    Raises CheckpointError for a damaged file or a pickle that needs code."""
    for file in weights.files:
        yield from iter_file(file, weights.format)


def iter_file(file: Path, weight_format: Format) -> Iterator[tuple[str, torch.Tensor]]:
    """Every (name, tensor) of one file; see `iter_tensors`."""
    if weight_format == "safetensors":
        with open_safetensors(file) as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict
                yield name, opened.get_tensor(name)
    else:
        yield from load_torch_file(file).items()


@contextmanager
def open_safetensors(file: Path) -> Iterator[Any]:
    """An open safetensors file; its header has been checked against the size of the file."""
    try:
        opened = safe_open(str(file), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a readable safetensors file: {_what_is_wrong(file) or error}. Fetch or write it again."
        ) from error
    with opened as reader:
        yield reader


def load_torch_file(file: Path, *, meta: bool = False) -> Mapping[str, torch.Tensor]:
    """The tensors of a file written by torch.save; `meta=True` reads names, dtypes and shapes only.

    Raises CheckpointError for a pickle that needs code, a damaged file, or content other than a flat mapping of tensors."""
    mapped = zipfile.is_zipfile(file)  # the older tar-like layout cannot be memory-mapped
    try:
        content = torch.load(file, map_location="meta" if meta else "cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} is a pickle that needs code to load{_unsafe_names(file)}; such files are refused. Convert it to safetensors where you trust it."
        ) from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{file} ({file.stat().st_size} bytes) is not a readable torch file: {error}. Fetch or write it again."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file} holds a {type(content).__name__}: wanted a mapping of names to tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{file} holds {name!r}: {type(tensor).__name__}: wanted a flat mapping of names to tensors. Is it a training state instead of a state_dict?"
            )
    return content


def _unsafe_names(file: Path) -> str:
    if not zipfile.is_zipfile(file):
        return ""
    names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    return f" ({', '.join(names[:4])})" if names else ""


def _what_is_wrong(file: Path) -> str | None:
    """Wanted and got bytes of a truncated safetensors file, in words; None where the length is not what is wrong."""
    if not file.is_file():
        return (
            f"there is no such file, or a dangling link (links to {file.readlink()})"
            if file.is_symlink()
            else "there is no such file"
        )
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        if len(head) < 8:
            return f"wanted a header of at least 8 bytes, got a file of {size} bytes"
        (length,) = struct.unpack("<Q", head)
        if length > _LONGEST_HEADER:
            return f"its first 8 bytes announce a header of {length} bytes, more than the format allows"
        if size < 8 + length:
            return f"it is truncated: wanted {8 + length} bytes for the header alone, got {size}"
        try:
            header = json.loads(stream.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError):
            return "its header is not JSON"
    try:
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (AttributeError, KeyError, IndexError, TypeError):
        return None
    wanted = 8 + length + end
    return (
        f"wanted {wanted} bytes, got {size}: it is {'truncated' if size < wanted else 'longer than its header says'}"
        if size != wanted
        else None
    )
