"""Texts in a model's own words: on average nothing predicts them better than the model as it is."""

from __future__ import annotations

import torch

from trialplate.models.causal_lm import CausalLM

BEGIN = 256


def spoken(model: CausalLM, n: int = 8, length: int = 16) -> list[list[int]]:
    """n texts drawn from the model after a beginning token, of different lengths up to `length`."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((n, 1), BEGIN)
    for _ in range(length - 1):
        ids = torch.cat([ids, model.logits(ids)[:, -1].softmax(-1).multinomial(1, generator=generator)], dim=1)
    return [row[: length - i].tolist() for i, row in enumerate(ids)]
