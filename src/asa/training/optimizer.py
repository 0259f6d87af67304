"""AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) in two groups: weight matrices are decayed, everything else is not.

Decayed: parameters of two axes (linear layers, the token embedding, once where it is tied to the head). Not decayed: norms, biases, the
scalars of the attention layers (ALiBi strength, gates), whose zero has no meaning, and `slot_keys` [H, K, d], which are addresses.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from asa.training.settings import TrainSettings


def decay_groups(model: nn.Module) -> tuple[list[str], list[str]]:
    """(decayed, not decayed): names of the trainable parameters, in the order of the model; a tied one is named once."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, p in named if p.ndim == 2], [name for name, p in named if p.ndim != 2]


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over `decay_groups`. ValueError for a model without trainable parameters."""
    parameters = dict(model.named_parameters())
    decayed, plain = decay_groups(model)
    if not decayed and not plain:
        raise ValueError("the model has no parameter that requires a gradient; there is nothing to train")
    groups: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in names], "weight_decay": decay}
        for names, decay in ((decayed, settings.weight_decay), (plain, 0.0))
        if names
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)
