"""In which order rows are read: a function of (number of rows, seed), epoch after epoch, without state, so that a run can go on anywhere in it.

Blocks of neighbouring rows are put in random order, and the rows of so many blocks at a time are shuffled among each other. What is read at one
time then lies near together on a disk; rows of fewer than BLOCK * WINDOW are in uniformly random order. Every epoch has every row once."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trialplate.sae.errors import TrainingError

BLOCK, WINDOW = 256, 256
"""Rows a block, blocks shuffled together."""


class Order:
    """The endless sequence of row numbers: epoch 0 in its order, epoch 1 in another, and so on."""

    def __init__(self, n_rows: int, seed: int, *, block: int = BLOCK, window: int = WINDOW) -> None:
        if n_rows < 1:
            raise TrainingError("there are no rows, so there is no order of them")
        self.n_rows, self.seed, self.block, self.window = n_rows, seed, block, window
        self._epochs: dict[int, np.ndarray] = {}

    def batch(self, number: int, size: int) -> Int[Tensor, " size"]:
        """The rows of batch `number` of so many rows each; a batch may reach from one epoch into the next."""
        start, parts = number * size, []
        while size > 0:
            epoch, begin = divmod(start, self.n_rows)
            part = self._epoch(epoch)[begin : begin + size]
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return torch.from_numpy(np.concatenate(parts))

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            latest = max(self._epochs, default=epoch)
            self._epochs = {e: rows for e, rows in self._epochs.items() if e == latest}  # a batch looks at two at most
            self._epochs[epoch] = self._shuffled(epoch)
        return self._epochs[epoch]

    def _shuffled(self, epoch: int) -> np.ndarray:
        draw = np.random.default_rng([self.seed, epoch])
        starts = draw.permutation(np.arange(0, self.n_rows, self.block))
        rows = (starts[:, None] + np.arange(self.block)).reshape(-1)
        rows = rows[rows < self.n_rows]
        width = self.block * self.window
        return np.concatenate([draw.permutation(rows[i : i + width]) for i in range(0, len(rows), width)])
