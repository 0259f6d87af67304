"""How large entries are: exact counts over a fixed logarithmic grid, of all units together."""

from __future__ import annotations

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.metrics.magnitudes import magnitude_counts


class Magnitudes:
    """Counts of |h| by its bfloat16 pattern (see `metrics.magnitudes`). State: 32,768 counts, whatever the number of tokens."""

    def __init__(self, *, skip_first: bool = False) -> None:
        self.skip_first = skip_first
        self._counts = torch.zeros(1 << 15, dtype=torch.int64)

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        rows = values[tokens.n_first if self.skip_first else 0 :]
        if len(rows):
            self._counts = self._counts.to(rows.device) + magnitude_counts(rows)

    def result(self) -> np.ndarray:
        """Counts [32768]. Raises ValueError where nothing was seen."""
        if not bool(self._counts.any()):
            raise ValueError("no tokens were seen, so there are no magnitudes")
        return self._counts.cpu().numpy()

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        return {"counts": self._counts}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        self._counts = state["counts"].clone()
