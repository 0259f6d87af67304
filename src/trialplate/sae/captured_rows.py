"""A collector that keeps rows of one site in memory: a uniform sample of a plan's tokens, in random order, chosen by the same keys as shards on disk."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.activations.batches import Plan, Tokens
from trialplate.activations.collectors.keyed import token_keys
from trialplate.activations.errors import CaptureError


class KeptRows:
    """At most `max_rows` rows of the tokens of a plan (None: all), in ascending order of their keys of (document, position, seed)."""

    def __init__(self, plan: Plan, max_rows: int | None, seed: int) -> None:
        keys = np.concatenate([_keys(batch.tokens(), seed) for batch in plan])
        n = len(keys) if max_rows is None else min(max_rows, len(keys))
        if n < 1:
            raise CaptureError(f"a sample has at least one row; {max_rows} of {len(keys)} were asked for")
        self.seed = seed
        self._keys = np.sort(keys)[:n]
        self._missing = n
        self._documents = torch.zeros(n, dtype=torch.long)
        self._values: Tensor | None = None

    def update(self, values: Float[Tensor, "n d"], tokens: Tokens) -> None:
        """Take those of the rows that are kept."""
        keys = _keys(tokens, self.seed)
        row = np.searchsorted(self._keys, keys)
        cells = np.flatnonzero((row < len(self._keys)) & (self._keys[np.minimum(row, len(self._keys) - 1)] == keys))
        if self._values is None:
            self._values = torch.empty(len(self._keys), values.shape[1])
        place, kept = torch.from_numpy(row[cells]), torch.from_numpy(cells)
        self._values[place] = values[kept.to(values.device)].float().cpu()
        self._documents[place] = tokens.document[kept]
        self._missing -= len(cells)

    @property
    def values(self) -> Float[Tensor, "n d"]:
        """The rows. CaptureError where the pass did not bring all of them."""
        if self._values is None or self._missing:
            raise CaptureError(f"{self._missing} of {len(self._keys)} rows were never read: the pass ended early")
        return self._values

    @property
    def documents(self) -> Int[Tensor, " n"]:
        """The document of every row."""
        return self._documents


def _keys(tokens: Tokens, seed: int) -> np.ndarray:
    return token_keys(tokens.document, tokens.position, seed)
