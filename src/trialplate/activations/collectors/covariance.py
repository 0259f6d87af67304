"""Covariance of the units over tokens, merged in float64. It costs about as much as the forward pass itself: ask for it where it is wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.precision import wide_device


@dataclass(frozen=True, slots=True)
class Scatter:
    """n tokens; mean [d]; scatter [d, d] = sum over tokens of (h - mean)(h - mean)^T, float64."""

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """scatter / (n - 1). Raises ValueError for fewer than two tokens."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least two tokens, got {self.n}")
        return self.scatter / (self.n - 1)


class Covariance:
    """Mean and scatter of all tokens, or of all but the first of each text. State: d x d numbers."""

    def __init__(self, *, skip_first: bool = False) -> None:
        self.skip_first = skip_first
        self._n = 0
        self._mean: torch.Tensor | None = None
        self._scatter: torch.Tensor | None = None

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        rows = values[tokens.n_first if self.skip_first else 0 :].float()
        n = len(rows)
        if not n:
            return
        mean32 = rows.sum(0) / n
        centred = rows - mean32
        where = wide_device(rows.device)
        mean, scatter = (t.to(where).to(torch.float64) for t in (mean32, centred.T @ centred))
        if self._mean is None or self._scatter is None:
            self._n, self._mean, self._scatter = n, mean, scatter
            return
        self._mean, self._scatter = (
            self._mean.to(where),
            self._scatter.to(where),
        )  # a state that was read lies on the CPU
        delta, total = mean - self._mean, self._n + n
        self._scatter += scatter + torch.outer(delta, delta) * (self._n * n / total)
        self._mean += delta * (n / total)
        self._n = total

    def result(self) -> Scatter:
        """What was seen. Raises ValueError where there was no token."""
        if self._mean is None or self._scatter is None:
            raise ValueError("no tokens were seen, so there is no covariance")
        return Scatter(self._n, self._mean.cpu().numpy().copy(), self._scatter.cpu().numpy().copy())

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        if self._mean is None or self._scatter is None:
            return {}
        return {"n": torch.tensor(self._n), "mean": self._mean, "scatter": self._scatter}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        if state:
            self._n, self._mean, self._scatter = int(state["n"]), state["mean"].clone(), state["scatter"].clone()
