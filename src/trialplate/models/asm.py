"""Checkpoint files of Addressed State Models that are not laid out for transformers: as modules, and as what is stored in them.

Importing it makes transformers know the architecture."""

from pathlib import Path

import torch
from torch import nn

import asa.registration  # noqa: F401 - registers when imported
from asa.checkpoint import CheckpointError, load_checkpoint
from asa.checkpoint_files import read_stored
from asa.checkpoint_keys import canonical
from trialplate.models.errors import ModelLoadError, TokenizerError
from trialplate.models.spec import ModelSpec


def load_module(file: Path, spec: ModelSpec) -> nn.Module:
    """The model of a checkpoint file on the CPU, in the dtype that is stored; strict. Raises ModelLoadError."""
    from asa.hf import from_language_model

    try:
        loaded = load_checkpoint(file)
    except CheckpointError as error:
        raise ModelLoadError(f"{spec.label}: {error}") from error
    return from_language_model(loaded.model)


def tokenizer_name(file: Path) -> str:
    """The tokenizer that the configuration of a checkpoint names, "" for none. Raises TokenizerError for a file that cannot be read."""
    try:
        cfg = read_stored(file, meta=True).cfg or {}
    except CheckpointError as error:
        raise TokenizerError(f"no tokenizer beside {file}, and the file itself does not name one: {error}") from error
    name = cfg.get("tokenizer_name")
    return name if isinstance(name, str) else ""


def stored_context_length(file: Path) -> int | None:
    """The window that the configuration of a checkpoint names, None where it names none. Raises ModelLoadError."""
    try:
        cfg = read_stored(file, meta=True).cfg or {}
    except CheckpointError as error:
        raise ModelLoadError(str(error)) from error
    found = (cfg.get(name) for name in ("max_seq_len", "n_ctx", "n_positions"))
    return next((length for length in found if isinstance(length, int)), None)


def stored_state(file: Path, *, meta: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file under their stored names; `meta=True` without numbers. Raises ModelLoadError."""
    try:
        return read_stored(file, meta=meta).state
    except CheckpointError as error:
        raise ModelLoadError(str(error)) from error


def stored_as_named_in_memory(file: Path, *, meta: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint file under the names of the module, without wrappers and computed buffers."""
    return canonical(stored_state(file, meta=meta)).state
