"""Who answers: the part of a cache key that names everything, besides the request, that decides an answer.

The digest of stored weights says which model was loaded, not what is in memory now. So the numbers in memory are summed up too, at every call: a
weight changed in place, by a training step or by hand, is another model. What no sum can see (a hook, a replaced forward) makes the cache step aside."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import nn

from trialplate.scoring.surface import ScorableModel

# Raised when answers change although no source file of this package does.
SCORING_VERSION = 1

_CHUNK = 1 << 18


def responder(model: ScorableModel) -> str | None:
    """sha256 (hex) that two models share only if they would give the same answers; None for a model that cannot be named."""
    if is_patched(model.module):
        return None
    identity = {
        "weights": model.weights_digest,
        "memory": memory_sum(model.module),
        "config": model.config_digest,
        "tokenizer": model.tokenizer.digest,
        "prefix": model.prefix_id,
        "max_length": model.max_length,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "code": code_digest(),
        "adapter_code": _file_digest(getattr(sys.modules.get(type(model).__module__), "__file__", None)),
        "model_code": _model_code(getattr(sys.modules.get(type(model.module).__module__), "__file__", None)),
        "structure": repr(model.module),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def is_patched(module: nn.Module) -> bool:
    """Whether something other than weights and configuration decides what a module computes: hooks, a forward replaced on an object, a disabled
    adapter, an attention layer of addressed states that is steered from outside."""
    return any(
        _foreign(part._forward_hooks)
        or _foreign(part._forward_pre_hooks)
        or "forward" in vars(part)
        or getattr(part, "disable_adapters", False) is True  # on whole models of transformers it is a method
        or _is_steered(part)
        for part in module.modules()
    )


def _is_steered(part: nn.Module) -> bool:
    """Whether an attribute that an attention layer of addressed states reads at every call says other than "as trained"."""
    return (
        getattr(part, "routing_override", None) is not None
        or getattr(part, "slot_mask", None) is not None
        or getattr(part, "_intv_mode", None) not in (None, "off")
    )


def _foreign(hooks: Mapping[int, object]) -> bool:
    """Whether a hook is not one of those that transformers installs for good once attentions were asked for; they only look."""
    return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks.values())


@cache
def code_digest() -> str:
    """The version of the scoring rules, with a sha256 (hex) over the sources of this package."""
    return f"{SCORING_VERSION}-{_sources_digest(Path(__file__).parent)}"


@torch.inference_mode()
def memory_sum(module: nn.Module) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Name, dtype, shape and a checksum of every parameter and buffer as it lies in memory, summed on its own device."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [(name, str(t.dtype), tuple(t.shape), checksum(t)) for name, t in sorted(tensors.items())]


def checksum(tensor: torch.Tensor) -> int:
    """A number that follows from the tensor's bytes: of each chunk, the sum of its 64-bit words times consecutive odd numbers modulo 2^64; then a hash.

    Any change of one word changes it, and so does any exchange of two unequal ones; it notices accidents and is no proof against intent."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if flat.numel() % 8 or flat.storage_offset() % 8:
        flat = torch.cat([flat, flat.new_zeros(-flat.numel() % 8)])
    words = flat.view(torch.int64)
    weights = torch.arange(1, 2 * min(_CHUNK, words.numel()) + 1, 2, device=words.device)
    digest = hashlib.sha256()
    for chunk in words.split(_CHUNK):
        total = int((chunk * weights[: chunk.numel()]).sum())  # wraps around, which is what is meant
        digest.update(total.to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest()[:8], "little")


@cache
def _model_code(file: str | None) -> str | None:
    """The code that a model runs, as far as it lies beside its class: of an architecture of transformers, of the ASM, of a user's own folder."""
    return _sources_digest(Path(file).parent) if file and Path(file).is_file() else None


def _sources_digest(folder: Path) -> str:
    """sha256 (hex) of the sources of a folder."""
    digest = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def _file_digest(path: str | None) -> str | None:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else None
