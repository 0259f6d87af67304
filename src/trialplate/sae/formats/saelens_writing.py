"""Writing a coder as SAELens does: a new folder with cfg.json and sae_weights.safetensors, float32, sorted keys. See `saelens` for what is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError
from trialplate.sae.formats import folding
from trialplate.sae.formats.assembly import assemble
from trialplate.sae.formats.folder import new_folder
from trialplate.sae.formats.identity import coder_digest
from trialplate.sae.formats.plain import plain
from trialplate.sae.formats.saelens_settings import CONFIG, KINDS, VERSION, WEIGHTS, architecture_of
from trialplate.sae.formats.sites import hook_of


def write(coder: Coder, folder: Path | str) -> str:
    """Write a coder into a new folder, which appears whole; returns the `coder_digest` of what reading it gives.

    That is the coder's own digest, but for coders in another dtype than float32, and for transcoders of SAELens' kinds that take b_dec off their input.
    CoderError for a batchtopk coder without a threshold and for numbers that are not finite (thresholds may be infinite: latents that never fire);
    FormatError where the folder exists, OSError where the disk refuses."""
    written = _written(coder)
    settings = json.dumps(_settings(written.config), indent=1, sort_keys=True, allow_nan=False)
    tensors = _tensors(written)
    with new_folder(Path(folder)) as place:
        save_file(tensors, place / WEIGHTS)
        (place / CONFIG).write_text(settings + "\n", encoding="utf-8")
    return coder_digest(written)


def _written(coder: Coder) -> Coder:
    """The coder whose parameters are stored: on the CPU, float32, and not centring where SAELens' transcoders cannot."""
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in coder.state_dict().items()}
    for name, tensor in state.items():
        fine = ~tensor.isnan() if name == "threshold" else tensor.isfinite()
        if not bool(fine.all()):
            what = (
                "has none yet; fit one with trialplate.sae.threshold.fit_threshold"
                if tensor.ndim == 0
                else "is not finite"
            )
            raise CoderError(f"{name} of this {coder.config.architecture} coder {what}; it is not written")
    kept = assemble(coder.config, state)
    folds = coder.config.centre_input and coder.config.is_transcoder and architecture_of(coder.config) in KINDS
    return folding.not_centring(kept) if folds else kept


def _tensors(coder: Coder) -> dict[str, Tensor]:
    state = coder.state_dict()
    state["W_enc"] = state.pop("encoder").T
    if coder.config.architecture == "batchtopk":
        state["threshold"] = state["threshold"].expand(coder.config.d_sae)
    return {name: state[name].contiguous() for name in sorted(state)}


def _settings(config: CoderConfig) -> dict[str, Any]:
    hook = hook_of(config.site_in)
    trained = f"matryoshka_{config.architecture}" if config.prefixes else config.architecture
    metadata: dict[str, Any] = {
        "model_name": config.model or None,
        "hook_name": hook or None,
        "hook_head_index": None,
        "sae_lens_version": VERSION,
        "training_architecture": "standard" if trained == "relu" else trained,
        "trialplate": plain(config),
    }
    if config.is_transcoder:
        metadata["hook_name_out"] = hook_of(config.site_out) or None
    for name in ("context_size", "prepend_bos", "dataset_path"):
        if name in config.about:
            metadata[name] = config.about[name]
    return {
        "architecture": architecture_of(config),
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.centre_input,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook.endswith("hook_z") else "none",
        "metadata": metadata,
        **({"d_out": config.d_out} if config.is_transcoder else {}),
        **({"k": config.k, "rescale_acts_by_decoder_norm": False} if config.architecture == "topk" else {}),
    }
