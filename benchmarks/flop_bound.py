"""The least arithmetic that given scores need, in CPU seconds of this machine: each token through the trunk once, the head where something is scored.

Multiply-adds of matrix products count as two operations; norms, activations and softmax are left out, so no program reaches the bound."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from trialplate.models.causal_lm import CausalLM
from trialplate.scoring.requests import Encoder, rolling_windows


def matmul_rate(repeat: int = 5) -> float:
    """Operations per CPU second of a large float32 matrix product with the threads in use."""
    a, b = torch.ones(1024, 1024), torch.ones(1024, 4096)
    a @ b
    least = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        for _ in range(4):
            a @ b
        least = min(least, time.process_time() - start)
    return 4 * 2 * 1024 * 1024 * 4096 / least


def needed_flops(model: CausalLM, groups: Sequence[tuple[str, Sequence[str]]]) -> float:
    """Operations for (context, continuations) groups, each context once; a group with an empty context is a document scored in windows."""
    d, layers = model.d_model, model.n_layers
    inner = model.module.config.intermediate_size
    trunk, head = 2 * layers * (4 * d * d + 2 * d * inner), 2 * d * model.vocab_rows
    encoder = Encoder(model)

    def part(n_new: int, n_before: int) -> int:
        """Trunk and attention over a causal triangle after n_before tokens."""
        return trunk * n_new + 4 * layers * d * (n_new * n_before + n_new * (n_new + 1) // 2)

    total = 0
    for context, continuations in groups:
        if not context:
            for window in rolling_windows(encoder.texts(continuations)[0], encoder.require_prefix(), model.max_length):
                n_scored = len(window.continuation)
                total += part(len(window.context) + n_scored - 1, 0) + head * n_scored
            continue
        pairs = encoder.pairs([(context, continuation) for continuation in continuations])
        n_context = len(pairs[0].context)
        total += part(n_context, 0) + head
        for pair in pairs:
            n_tail = len(pair.continuation) - 1
            total += part(n_tail, n_context) + head * n_tail
    return total
