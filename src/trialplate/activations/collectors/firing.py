"""Which units fired on which tokens, one bit each, in reading order: what co-activation is counted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trialplate.activations.batches import Tokens


@dataclass(frozen=True, slots=True)
class Pattern:
    """fires [t, d] bool, with document, cluster and position [t]; documents whole and in order."""

    fires: np.ndarray
    document: np.ndarray
    cluster: np.ndarray
    position: np.ndarray


class FiringBits:
    """Bits h > threshold of whole texts, until `max_tokens` are kept; later texts are left out. State grows with tokens, one bit a unit.

    Batches come longest first, so the texts that are kept are the longest; give `max_tokens` None to keep all."""

    def __init__(self, max_tokens: int | None = None, threshold: float = 0.0, *, skip_first: bool = False) -> None:
        self.max_tokens, self.threshold, self.skip_first = max_tokens, threshold, skip_first
        self._bits: list[np.ndarray] = []
        self._about: list[np.ndarray] = []
        self._width = 0

    @property
    def n_tokens(self) -> int:
        """Tokens kept so far."""
        return sum(len(part) for part in self._about)

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        begin = tokens.n_first if self.skip_first else 0
        about = torch.stack([tokens.document, tokens.cluster, tokens.position], 1)[begin:].numpy()
        chosen = self._chosen(about[:, 0])
        if not len(chosen):
            return
        fires = (values[begin:] > self.threshold).cpu().numpy()
        self._width = fires.shape[1]
        self._bits.append(np.packbits(fires[chosen], axis=1))
        self._about.append(about[chosen])

    def _chosen(self, documents: np.ndarray) -> np.ndarray:
        """Rows of the documents that still fit, whole ones only."""
        if self.max_tokens is None:
            return np.arange(len(documents))
        numbers, first, counts = np.unique(documents, return_index=True, return_counts=True)
        order = np.argsort(first)
        fit = np.cumsum(counts[order]) <= self.max_tokens - self.n_tokens
        return np.flatnonzero(np.isin(documents, numbers[order][fit]))

    def result(self) -> Pattern:
        """The pattern. Raises ValueError where no text was kept."""
        if not self._about:
            raise ValueError(
                "no text was kept, so there is no firing pattern; max_tokens may be less than the shortest text"
            )
        about, bits = np.concatenate(self._about), np.concatenate(self._bits)
        order = np.lexsort((about[:, 2], about[:, 0]))
        fires = np.unpackbits(bits[order], axis=1, count=self._width).astype(bool)
        document, cluster, position = about[order].T
        return Pattern(fires, document, cluster, position)

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        if not self._about:
            return {}
        return {
            "bits": torch.from_numpy(np.concatenate(self._bits)),
            "about": torch.from_numpy(np.concatenate(self._about)),
            "width": torch.tensor(self._width),
        }

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        if state:
            self._bits, self._about = [state["bits"].numpy()], [state["about"].numpy()]
            self._width = int(state["width"])
