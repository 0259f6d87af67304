"""Addressed State Attention: the model core. Attention in time linear in the text, with a state of constant size that can be read and edited."""

from asa import registration as _registration  # noqa: F401  (serves transformers when it is imported, before or after)
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
