"""What is kept of the logits. A sink is handed logits in slices, with the slots that each position fills; the slice is gone afterwards.

Symbols: p = positions in a slice, v = rows of the output head, e = slots filled by the slice (several slots may read one position)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class ScoringError(RuntimeError):
    """The model gave no usable answer: NaN, or no memory for the smallest batch."""


class Sink(Protocol):
    """Takes logits and keeps what its caller wants of them."""

    def take(self, logits: torch.Tensor, position: torch.Tensor, slots: torch.Tensor) -> None:
        """Logits [p, v]; slot slots[i] (e of them) is filled from row position[i]. A slot may be filled again after an interruption."""


class TargetSink:
    """Log-probability of one target token a slot, and whether it is the most likely one. Softmax in float32."""

    def __init__(self, targets: Sequence[int], device: torch.device) -> None:
        self.targets = torch.tensor(targets, dtype=torch.long, device=device)
        self.logprobs = torch.full((len(targets),), torch.nan, device=device)
        self.is_argmax = torch.zeros(len(targets), dtype=torch.bool, device=device)

    def take(self, logits: torch.Tensor, position: torch.Tensor, slots: torch.Tensor) -> None:
        """Keep one number and one flag a slot."""
        logprobs = logits.float().log_softmax(-1)
        targets = self.targets[slots]
        self.logprobs[slots] = logprobs[position, targets]
        self.is_argmax[slots] = logprobs.argmax(-1)[position] == targets

    def results(self, label: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Log-probabilities and flags by slot. Raises ScoringError for NaN: a number that compares as false with everything must not become an answer."""
        logprobs = self.logprobs.cpu().double().numpy()
        bad = np.isnan(logprobs)
        if bad.any():
            raise ScoringError(
                f"{label}: {int(bad.sum())} of {bad.size} log-probabilities are NaN, the first at scored position {int(bad.argmax())}; wanted numbers. "
                f"Look for NaN or infinite weights, or choose a wider --dtype."
            )
        return logprobs, self.is_argmax.cpu().numpy()


class RowSink:
    """Whole rows of logits or log-probabilities, or chosen columns of them: float32 on the CPU, [n slots, v] or [n slots, c].

    `candidates` holds c token ids for each slot; None keeps every column."""

    def __init__(self, n_slots: int, vocab_rows: int, candidates: torch.Tensor | None, normalise: bool) -> None:
        columns = vocab_rows if candidates is None else candidates.shape[1]
        self.rows = torch.full((n_slots, columns), torch.nan)
        self.candidates, self.normalise = candidates, normalise

    def take(self, logits: torch.Tensor, position: torch.Tensor, slots: torch.Tensor) -> None:
        """Keep the wanted columns of each slot's row."""
        values = logits.float()
        values = (values.log_softmax(-1) if self.normalise else values)[position]
        slots = slots.cpu()
        if self.candidates is not None:
            values = values.gather(1, self.candidates[slots].to(values.device))
        self.rows[slots] = values.cpu()

    def results(self, label: str) -> torch.Tensor:
        """The rows by slot. Raises ScoringError for NaN."""
        bad = self.rows.isnan().any(1)
        if bad.any():
            raise ScoringError(
                f"{label}: the output of {int(bad.sum())} of {len(bad)} positions holds NaN, the first at position {int(bad.int().argmax())}; wanted numbers. "
                f"Look for NaN or infinite weights, or choose a wider --dtype."
            )
        return self.rows
