"""A uniform sample of rows: for what needs whole rows (curves of contribution, ranks, covariances), and a few hundred of them are enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.keyed import token_keys


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows [m, d] float32 with the document, cluster, position and token id of each, in reading order."""

    values: np.ndarray
    document: np.ndarray
    cluster: np.ndarray
    position: np.ndarray
    token: np.ndarray


class RowSample:
    """A reservoir of at most `size` rows, without replacement, each token as likely as any other.

    A token's place is decided by a key of (document, position, seed), so the sample does not depend on batches, and is the same tokens at every
    site. State: the rows."""

    def __init__(self, size: int, seed: int, *, skip_first: bool = False) -> None:
        if size < 1:
            raise ValueError(f"a sample has at least one row, got size={size}")
        self.size, self.seed, self.skip_first = size, seed, skip_first
        self._keys = np.empty(0, np.uint64)
        self._about = np.empty((0, 4), np.int64)
        self._values: torch.Tensor | None = None

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        begin = tokens.n_first if self.skip_first else 0
        keys = token_keys(tokens.document[begin:], tokens.position[begin:], self.seed)
        full = len(self._keys) == self.size
        enter = np.flatnonzero(keys < self._keys.max()) if full else np.arange(len(keys))
        if not len(enter):
            return
        about = torch.stack([tokens.document, tokens.cluster, tokens.position, tokens.token], 1)[begin:].numpy()
        new = values[begin:][torch.from_numpy(enter).to(values.device)].float()
        rows = new if self._values is None else torch.cat([self._values.to(new.device), new])
        self._keys, self._about = np.concatenate([self._keys, keys[enter]]), np.concatenate([self._about, about[enter]])
        if len(self._keys) > self.size:
            kept = np.argpartition(self._keys, self.size - 1)[: self.size]
            self._keys, self._about = self._keys[kept], self._about[kept]
            rows = rows[torch.from_numpy(kept).to(rows.device)]
        self._values = rows

    def result(self) -> Sample:
        """The sample. Raises ValueError where no token was seen."""
        if self._values is None:
            raise ValueError("no tokens were seen, so there is no sample of rows")
        order = np.lexsort((self._about[:, 2], self._about[:, 0]))
        document, cluster, position, token = self._about[order].T
        return Sample(self._values.cpu().numpy()[order], document, cluster, position, token)

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        if self._values is None:
            return {}
        return {
            "keys": torch.from_numpy(self._keys.view(np.int64).copy()),
            "about": torch.from_numpy(self._about),
            "values": self._values,
        }

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        if state:
            self._keys = state["keys"].cpu().numpy().view(np.uint64).copy()
            self._about, self._values = state["about"].cpu().numpy().copy(), state["values"]
