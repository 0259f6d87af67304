"""A small model whose logits are far from uniform, so that a wrong state, mask or weight shows."""

from __future__ import annotations

from typing import Any

import torch

from asa.asm_lm import ASMLanguageModel, build_model_from_cfg
from asa.config import ASMTrainConfig

SIZES = {
    "vocab_size": 61, "embed_dim": 32, "num_layers": 2, "num_heads": 4, "num_slots": 8, "max_seq_len": 64, "slotspace_dim": 16,
    "write_chunk_size": 8, "slotspace_chunk_size": 8,
}  # fmt: skip


def tiny(seed: int = 0, variant: str = "baseline", **changes: Any) -> ASMLanguageModel:
    """A model of SIZES with `changes`, in evaluation mode; its weights are large, its gates and slot weights open."""
    cfg = ASMTrainConfig.from_dict({**SIZES, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model_from_cfg(cfg, variant)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 0:
                    parameter.add_(0.5 if "alibi" in name else 3.0)
                elif name.endswith(("mlp.0.bias", "mlp.3.bias")):
                    parameter.normal_(std=0.3)
                elif name == "norm.weight":
                    parameter.mul_(8.0)
                elif name in ("tok.weight", "lm_head.weight"):
                    parameter.mul_(3.0)
                elif parameter.ndim > 1 and float(parameter.std()) < 0.1:
                    parameter.mul_(12.0)
    return model.eval().requires_grad_(False)


def ids(rows: int, length: int, seed: int = 0, vocab: int = 61) -> torch.Tensor:
    """Random token ids [rows, length], none of them 0."""
    return torch.randint(1, vocab, (rows, length), generator=torch.Generator().manual_seed(seed))
