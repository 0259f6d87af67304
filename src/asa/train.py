"""Training a language model to predict the next token: the public face of `asa.training`.

    result = train(model, train_tokens, val_tokens, TrainSettings(total_steps=300), Path("runs/first"))

Deterministic for a seed and thread count on one kind of CPU; resumable to the bit (`train(..., resume=True)`); checkpoints are in the
published container and load with `asa.checkpoint.load_checkpoint`.
"""

from __future__ import annotations

import torch

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.config import ASMTrainConfig
from asa.training.batches import Batch, Source, TokenWindows
from asa.training.folder import COLUMNS, RunFolderError
from asa.training.loop import NonFiniteGradients, Progress, TrainResult, train
from asa.training.optimizer import decay_groups, make_optimizer
from asa.training.precision import Precision
from asa.training.schedule import learning_rate
from asa.training.settings import SettingsError, TrainSettings
from asa.training.step import accumulate, token_nats, update
from asa.training.store import CheckpointStore, StoreError
from asa.training.validation import Validation, validate

__all__ = [
    "COLUMNS",
    "Batch",
    "CheckpointStore",
    "NonFiniteGradients",
    "Precision",
    "Progress",
    "RunFolderError",
    "SettingsError",
    "Source",
    "StoreError",
    "TokenWindows",
    "TrainResult",
    "TrainSettings",
    "Validation",
    "accumulate",
    "decay_groups",
    "fresh_model",
    "learning_rate",
    "make_optimizer",
    "token_nats",
    "train",
    "update",
    "validate",
]


def fresh_model(cfg: ASMTrainConfig, seed: int, variant: str = "baseline") -> ASMLanguageModel:
    """An untrained model of a configuration, the same for the same seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every accelerator too
        return build_model_from_cfg(cfg, variant)
