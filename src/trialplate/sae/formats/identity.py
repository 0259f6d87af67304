"""Content names a coder: its tensors, and the few settings that decide what it computes from them. Where it came from plays no part."""

from __future__ import annotations

import hashlib
import json

from trialplate.checkpoints.digest import state_digest
from trialplate.sae.coder import Coder

_COMPUTED = ("architecture", "k", "signed", "n_experts", "centre_input", "skip")


def coder_digest(coder: Coder) -> str:
    """sha256 (hex) of a coder: name, dtype, shape and bytes of every tensor, and architecture, k, signed, n_experts, centre_input and skip.

    Sites, model, prefixes and notes are not covered: two files with one function have one digest. On any device; a coder moved to another dtype is another."""
    settings = {name: getattr(coder.config, name) for name in _COMPUTED}
    text = json.dumps([settings, state_digest(coder.state_dict())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
