"""Addressed State Attention: the model core. Attention in time linear in the text, with a state of constant size that can be read and edited."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asa import registration as _registration  # noqa: F401  (serves transformers when that is imported, before or after)

if TYPE_CHECKING:
    from asa.asa import AddressedStateAttention, AddressedStateAttentionIntervene, AddressedStateAttentionOnline
    from asa.asm_block import ASMBlock
    from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
    from asa.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
    from asa.config import ASMTrainConfig, ConfigError
    from asa.generation import generate
    from asa.interventions import setting
    from asa.state import ASMState, LayerState

__version__ = "0.1.0"
__all__ = [
    "ASMBlock",
    "ASMLanguageModel",
    "ASMState",
    "ASMTrainConfig",
    "AddressedStateAttention",
    "AddressedStateAttentionIntervene",
    "AddressedStateAttentionOnline",
    "CheckpointError",
    "ConfigError",
    "LayerState",
    "build_model_from_cfg",
    "generate",
    "load_checkpoint",
    "save_checkpoint",
    "setting",
]

# Where each public name lives. They are fetched when first asked for: importing the package alone does not import torch.
_HOMES = {
    "asa.asa": ("AddressedStateAttention", "AddressedStateAttentionIntervene", "AddressedStateAttentionOnline"),
    "asa.asm_block": ("ASMBlock",),
    "asa.asm_lm": ("ASMLanguageModel", "build_model_from_cfg"),
    "asa.checkpoint": ("CheckpointError", "load_checkpoint", "save_checkpoint"),
    "asa.config": ("ASMTrainConfig", "ConfigError"),
    "asa.generation": ("generate",),
    "asa.interventions": ("setting",),
    "asa.state": ("ASMState", "LayerState"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
