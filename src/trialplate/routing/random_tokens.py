"""Routing statistics of the checkpoint definition: the first layer's reads of random tokens, before and after a change of the model."""

from __future__ import annotations

import torch

from asa.asm_lm import ASMLanguageModel
from trialplate.metrics.routing import read_entropy, top1_frequency, valid_rows

SHAPE = (2, 16)


@torch.no_grad()
def random_token_statistics(model: ASMLanguageModel, seed: int) -> dict[str, float]:
    """`routing_entropy` (nats) and `routing_top1freq` of layer 0 on 2 x 16 uniform ids, and `slotspace_delta_norm` where it exists.

    The ids are those of the seed: two models of one vocabulary are asked the same."""
    generator = torch.Generator().manual_seed(seed)
    length = min(SHAPE[1], model.max_seq_len)
    ids = torch.randint(0, model.vocab_size, (SHAPE[0], length), generator=generator).to(model.tok.weight.device)
    info = model(ids, return_info=True)[1][0]
    rows = valid_rows(info["read_weights"])
    found = {"routing_entropy": read_entropy(rows), "routing_top1freq": top1_frequency(rows)}
    if info.get("slotspace_delta_norm") is not None:
        found["slotspace_delta_norm"] = float(info["slotspace_delta_norm"])
    return found
