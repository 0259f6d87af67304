"""Tied weights: where a configuration ties the output head to the embedding, they are one tensor in memory and the file does not say otherwise."""

from typing import Any

from trialplate.checkpoints.digest import tensor_digest
from trialplate.checkpoints.files import WeightFiles
from trialplate.checkpoints.keys import KeyManifest
from trialplate.checkpoints.tensors import iter_tensors
from trialplate.models.errors import ModelLoadError
from trialplate.models.spec import ModelSpec

_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = (
    "wte.weight",
    "embed_tokens.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "embeddings.weight",
    "tok.weight",
)


def declares_tied(module: Any) -> bool:
    """Whether the configuration ties the head to the embedding."""
    return bool(getattr(module.config, "tie_word_embeddings", False))


def is_tied(module: Any) -> bool:
    """Whether head and embedding are the same memory."""
    head, embedding = module.get_output_embeddings(), module.get_input_embeddings()
    return head is not None and head.weight.data_ptr() == embedding.weight.data_ptr()


def require_tied_as_declared(module: Any, weights: WeightFiles, manifest: KeyManifest, spec: ModelSpec) -> None:
    """Raise ModelLoadError where the module is tied otherwise than declared, or where a tied model's file stores a head that differs from its embedding."""
    declared = declares_tied(module)
    heads = [name for name in manifest if name.endswith(_HEADS)]
    embeddings = [name for name in manifest if name.endswith(_EMBEDDINGS)]
    if declared and heads and embeddings:
        stored = {n: tensor_digest(tensor) for n, tensor in iter_tensors(weights) if n in (heads[0], embeddings[0])}
        if stored[heads[0]] != stored[embeddings[0]]:
            raise ModelLoadError(
                f"{spec.label}: config.json ties head and embedding, but {weights.folder} stores {heads[0]!r} and {embeddings[0]!r} with different content: "
                f"one of them would be dropped. Set tie_word_embeddings to false, or save the model again."
            )
    if declared != is_tied(module):
        raise ModelLoadError(
            f"{spec.label}: config.json says that head and embedding are {'tied' if declared else 'separate'}, and after loading they are not"
        )
