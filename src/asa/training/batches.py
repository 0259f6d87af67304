"""What a step reads: batches of rows from a source that can say where it stands and go back there.

A row is `seq_len + 1` ids: the first `seq_len` are read, the last `seq_len` are predicted. Weights say how much each prediction counts;
0 makes a target invalid (padding).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """ids [rows, seq_len + 1] int64; weights [rows, seq_len] float32 of the targets ids[:, 1:], None where all count 1."""

    ids: Tensor
    weights: Tensor | None = None

    @property
    def total_weight(self) -> float:
        """The sum of the weights: the number of targets where all count 1."""
        if self.weights is None:
            return float(self.ids[:, 1:].numel())
        return self.weights.sum(dtype=torch.float64).item()


class Source(Protocol):
    """An endless stream of batches, the same for the same construction, that can be continued from a state."""

    rows_per_epoch: int
    """Rows after which everything has been read once."""

    def next_batch(self) -> Batch:
        """The next rows."""

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: generators and position, as tensors and plain data."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another stream of the same construction stood."""

    def checksums(self) -> dict[str, Any]:
        """What the data are, as plain data: digests and sizes."""


class TokenWindows:
    """Windows of one stream of tokens, in a new order each epoch.

    An epoch cuts the stream, from an offset below `seq_len` that is drawn anew, into windows that share no target, and reads them in a
    drawn order. A batch that reaches the end of an epoch goes on in the next. Row order does not depend on `batch_size`.
    The generator is the stream's own; its state at the beginning of the epoch, with the position in it, is the whole state."""

    def __init__(self, tokens: Tensor, *, seq_len: int, batch_size: int, seed: int) -> None:
        if tokens.ndim != 1 or tokens.dtype != torch.int64:
            raise ValueError(f"tokens: wanted a 1-D int64 tensor, got {tokens.dtype} of shape {tuple(tokens.shape)}")
        if tokens.numel() < 2 * seq_len:
            raise ValueError(
                f"training text: wanted at least {2 * seq_len} tokens (two windows of seq_len {seq_len}), got {tokens.numel()}; "
                f"give more text or a smaller seq_len"
            )
        self._tokens, self._seq_len, self._batch_size = tokens, seq_len, batch_size
        self.rows_per_epoch = (tokens.numel() - seq_len) // seq_len  # the same for every offset
        self._generator = torch.Generator().manual_seed(seed)
        self._epoch = -1
        self._begin_epoch()

    def next_batch(self) -> Batch:
        """The next `batch_size` rows."""
        starts: list[int] = []
        while len(starts) < self._batch_size:
            if self._next == self.rows_per_epoch:
                self._begin_epoch()
            taken = self._order[self._next : self._next + self._batch_size - len(starts)]
            starts += taken
            self._next += len(taken)
        return Batch(torch.stack([self._tokens[start : start + self._seq_len + 1] for start in starts]))

    def state_dict(self) -> dict[str, Any]:
        """`generator` (as it stood when the epoch began), `epoch`, `next` (rows of the epoch that were read)."""
        return {"generator": self._at_epoch_start, "epoch": self._epoch, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Draw the epoch of the state again and go to its row."""
        self._generator.set_state(state["generator"])
        self._epoch = state["epoch"] - 1
        self._begin_epoch()
        self._next = state["next"]

    def checksums(self) -> dict[str, Any]:
        """Digest and number of the tokens."""
        return token_checksum(self._tokens)

    def _begin_epoch(self) -> None:
        self._at_epoch_start = self._generator.get_state()
        offset = int(torch.randint(self._seq_len, (), generator=self._generator))
        order = torch.randperm(self.rows_per_epoch, generator=self._generator)
        self._order: list[int] = (order * self._seq_len + offset).tolist()
        self._epoch += 1
        self._next = 0


def token_checksum(tokens: Tensor) -> dict[str, Any]:
    """{"tokens": how many, "sha256": of their little-endian int64 bytes}."""
    return {"tokens": tokens.numel(), "sha256": hashlib.sha256(tokens.contiguous().numpy().data).hexdigest()}
