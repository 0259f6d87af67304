"""Loss on text that is not trained on: windows at a stride, every token scored once.

A window of `seq_len` tokens begins every `stride` tokens. The first scores all of its predictions; each later one only those beyond the
end of the one before, so that (but for the first window) every prediction sees at least `seq_len - stride` tokens. The last window is
moved back so that it ends with the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asa.training.precision import Precision
from asa.training.step import token_nats


@dataclass(frozen=True, slots=True)
class Validation:
    """Sum of the cross-entropy (nats) over `tokens` predictions."""

    nats: float
    tokens: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where a float cannot hold it."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def bits_per_byte(self, n_bytes: int) -> float:
        """All bits over all UTF-8 bytes of the scored text."""
        return self.nats / (math.log(2) * n_bytes)


@dataclass(frozen=True, slots=True)
class Window:
    """Reads tokens[start : start + length]; of its predictions the last `scored` count."""

    start: int
    length: int
    scored: int


def windows(n_tokens: int, seq_len: int, stride_frac: float) -> list[Window]:
    """The windows over a text: their `scored` add up to n_tokens - 1. ValueError for fewer than two tokens."""
    n_targets = n_tokens - 1
    if n_targets < 1:
        raise ValueError(f"validation text: wanted at least two tokens, got {n_tokens}")
    stride = max(1, int(seq_len * stride_frac))
    found: list[Window] = []
    done = 0
    while done < n_targets:
        end = min(n_targets, done + stride) if found else min(n_targets, seq_len)
        length = min(seq_len, end)
        found.append(Window(end - length, length, end - done))
        done = end
    return found


@torch.no_grad()
def validate(
    model: nn.Module,
    tokens: Tensor,
    *,
    seq_len: int,
    stride_frac: float,
    batch_size: int,
    max_batches: int,
    precision: Precision,
) -> Validation:
    """Score a text [N] (int64). The model is in eval mode inside and as it was afterwards; no generator is drawn from.

    `max_batches` (0: all) ends it early; `tokens` of the result says how many predictions were scored."""
    was_training = model.training
    model.eval()
    nats, scored = 0.0, 0
    try:
        for batch in _batches(windows(len(tokens), seq_len, stride_frac), batch_size, max_batches):
            rows = torch.stack([tokens[w.start : w.start + w.length + 1] for w in batch]).to(precision.device)
            each = token_nats(model, rows, precision).cpu().double()
            for row, window in zip(each, batch, strict=True):
                nats += row[-window.scored :].sum().item()
                scored += window.scored
    finally:
        model.train(was_training)
    return Validation(nats, scored)


def _batches(found: list[Window], size: int, most: int) -> Iterator[list[Window]]:
    """Groups of up to `size` windows; all windows of a text have one length."""
    starts = range(0, len(found), size)
    for start in starts[:most] if most else starts:
        yield found[start : start + size]
