"""What is stored of a model, whatever kind of file holds it: keys, content, tensors."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trialplate.checkpoints.digest import state_digest, weights_digest, with_content
from trialplate.checkpoints.files import find_weights
from trialplate.checkpoints.keys import KeyManifest
from trialplate.checkpoints.manifest import read_manifest, state_manifest
from trialplate.checkpoints.tensors import iter_tensors
from trialplate.models.resolve import Source

if TYPE_CHECKING:
    import torch


def stored_digest(source: Source) -> str:
    """sha256 (hex) of the weights as stored: names, dtypes, shapes and bytes. Raises CheckpointError or ModelLoadError."""
    if source.checkpoint is None:
        return weights_digest(source.path)
    from trialplate.models.asm import stored_state

    return state_digest(stored_state(source.checkpoint))


def stored_manifest(source: Source, *, content: bool = False, transposed: bool = False) -> KeyManifest:
    """Names, dtypes and shapes as stored; on request with digests of contents, and of the transposes of matrices.

    Raises CheckpointError or ModelLoadError."""
    if source.checkpoint is None:
        return read_manifest(find_weights(source.path), content=content, transposed=transposed)
    from trialplate.models.asm import stored_state

    state = stored_state(source.checkpoint, meta=not (content or transposed))
    if transposed:
        return {name: with_content(tensor, transposed=True) for name, tensor in state.items()}
    return state_manifest(state, content=content)


def context_length(source: Source) -> int | None:
    """How many tokens a model reads at once, from its configuration without loading it; None where that does not say."""
    if source.checkpoint is not None:
        from trialplate.models.asm import stored_context_length

        return stored_context_length(source.checkpoint)
    file = source.path / "config.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    lengths = (content.get(name) for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"))
    return next((length for length in lengths if isinstance(length, int)), None)


def comparable_manifest(source: Source) -> KeyManifest:
    """Names, dtypes and shapes under the names of `comparable_tensors`; no numbers are read."""
    if source.checkpoint is None:
        return read_manifest(find_weights(source.path))
    from trialplate.models.asm import stored_as_named_in_memory

    return state_manifest(stored_as_named_in_memory(source.checkpoint, meta=True))


def comparable_tensors(source: Source) -> "Iterator[tuple[str, torch.Tensor]]":
    """The stored tensors under names that a module of the architecture can be compared with; a checkpoint file may use another public naming."""
    if source.checkpoint is None:
        yield from iter_tensors(find_weights(source.path))
    else:
        from trialplate.models.asm import stored_as_named_in_memory

        yield from stored_as_named_in_memory(source.checkpoint).items()
