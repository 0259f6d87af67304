"""Rows of held-out text as a model of the corpus reads it: whole documents one behind the other, each closed by the end token.

Symbols: row = one row of several documents; T = tokens of the longest. A document alone is shorter than a write chunk, so what depends on
the borders of chunks shows in rows only."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from trialplate.metrics import statistics
from trialplate.tasks.corpus import heldout_documents

SEED = 1002
LONGEST = 512


@dataclass(frozen=True, slots=True)
class Rows:
    """`ids` [row, T], padded on the right, where a causal model cannot see it; `is_real` [row, T]; `n_bytes` [row] of the documents."""

    ids: torch.Tensor
    is_real: torch.Tensor
    n_bytes: np.ndarray

    @property
    def digest(self) -> str:
        """Content of the rows, padding left out."""
        return hashlib.sha256(repr([row[real].tolist() for row, real in self]).encode()).hexdigest()

    def __iter__(self):
        return zip(self.ids, self.is_real, strict=True)

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, n):
        """The first n rows."""
        return Rows(self.ids[:n], self.is_real[:n], self.n_bytes[:n])


def held_out_rows(model, n):
    """n rows of documents that training never saw, each as full as whole documents make it, up to the window of the model or 512 tokens.

    Documents that are longer than the window are left out."""
    width, end = min(model.max_length, LONGEST), [] if model.prefix_id is None else [model.prefix_id]
    rows, sizes, row, size = [], [], list(end), 0
    for text in heldout_documents(n * width // 4, seed=SEED):
        piece = [*model.tokenizer.encode(text), *end]
        if len(piece) >= width:
            continue
        if len(row) + len(piece) > width:
            rows, sizes, row, size = [*rows, row], [*sizes, size], list(end), 0
        if len(rows) == n:
            break
        row, size = [*row, *piece], size + len(text.encode())
    ids = torch.zeros(n, width, dtype=torch.long)
    is_real = torch.zeros(n, width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        is_real[index, : len(row)] = True
    return Rows(ids.to(model.device), is_real.to(model.device), np.array(sizes, dtype=float))


@torch.no_grad()
def nats(logits, rows):
    """Nats of every row: the sum over its tokens but the first of -log P(token given those before it). [row], float64."""
    spent = []
    for row_logits, (ids, real) in zip(logits, rows, strict=True):
        targets = torch.where(real[1:], ids[1:], -100)
        spent.append(F.cross_entropy(row_logits[:-1].float(), targets, reduction="none").double().sum().item())
    return np.array(spent)


def per_byte(cost, rows):
    """Mean of nats [row] in bits a byte. For a difference of two runs: what is hard in a row is hard in both and cancels out."""
    return statistics.ratio_of_sums(cost, rows.n_bytes, scale=1 / math.log(2))
