"""The keys that a configuration makes, without any weights: the module is built on the meta device and named as its files name it."""

import re
from typing import Any

from trialplate.checkpoints.keys import KeyManifest, TensorInfo
from trialplate.checkpoints.manifest import state_manifest
from trialplate.models.tied import declares_tied

# In memory -> in files, by model type; transformers renames while it loads.
_STORED_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "gpt_neox": ((r"^lm_head\.", "embed_out."),),
    "gpt2": ((r"^transformer\.", ""),),  # as in the files of the hub
}


def expected_keys(config: Any, dtype: str = "F32") -> KeyManifest:
    """Stored keys of a causal language model with this transformers configuration; every floating tensor gets `dtype` (F32, F16, BF16).

    A tied head is not listed: it is the embedding."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(config)
    state = module.state_dict()
    if declares_tied(module):
        state = {name: tensor for name, tensor in state.items() if not name.startswith("lm_head.")}
    floating = {name for name, tensor in state.items() if tensor.is_floating_point()}
    rules = _STORED_NAMES.get(config.model_type, ())
    manifest: KeyManifest = {}
    for name, info in state_manifest(state).items():
        stored = name
        for pattern, replacement in rules:
            stored = re.sub(pattern, replacement, stored)
        manifest[stored] = TensorInfo(dtype, info.shape) if name in floating else info
    return manifest
