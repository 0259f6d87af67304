"""Sums of every unit by cluster (a text, or a block of texts): what intervals over texts, and permutations of texts between tasks, are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.precision import rows_at_once

Field = Literal["fires", "abs", "square"]
FIELDS: tuple[Field, ...] = ("fires", "abs", "square")


@dataclass(frozen=True, slots=True)
class ClusterTable:
    """tokens [c], and of the fields that were asked for: fires (tokens with h > threshold), abs (sum of |h|), square (sum of h^2), [c, d]."""

    tokens: np.ndarray
    fires: np.ndarray | None
    abs: np.ndarray | None
    square: np.ndarray | None


class ClusterSums:
    """Sums by cluster, of all tokens or of all but the first of each text. State: clusters x units numbers a field, in float32.

    float32 counts exactly up to 2^24 = 16,777,216 tokens a cluster; `update` refuses to go beyond."""

    def __init__(
        self,
        n_clusters: int,
        fields: tuple[Field, ...] = ("fires",),
        threshold: float = 0.0,
        *,
        skip_first: bool = False,
    ) -> None:
        self.n_clusters, self.fields, self.threshold, self.skip_first = n_clusters, fields, threshold, skip_first
        self._tokens = torch.zeros(n_clusters, dtype=torch.int64)
        self._sums: dict[str, torch.Tensor] = {}

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        begin = tokens.n_first if self.skip_first else 0
        cluster = tokens.cluster[begin:]
        if not len(cluster):
            return
        self._tokens += torch.bincount(cluster, minlength=self.n_clusters)
        if int(self._tokens.max()) > 1 << 24:
            raise ValueError(
                "a cluster of more than 16,777,216 tokens cannot be counted exactly here: cut the texts into more clusters"
            )
        where, step = cluster.to(values.device), rows_at_once(values)
        for field in self.fields:
            sums = self._sums.get(field)
            if sums is None:
                sums = torch.zeros(self.n_clusters, values.shape[1], device=values.device)
            self._sums[field] = sums = sums.to(values.device)
            for start in range(0, len(where), step):
                rows = values[begin + start : begin + start + step].float()
                sums.index_add_(0, where[start : start + step], self._of(field, rows))

    def _of(self, field: Field, rows: torch.Tensor) -> torch.Tensor:
        if field == "fires":
            return torch.gt(rows, self.threshold, out=torch.empty_like(rows))
        return rows.abs() if field == "abs" else rows * rows

    def result(self) -> ClusterTable:
        """The table, without clusters that had no token. Raises ValueError where there was none at all."""
        seen = self._tokens > 0
        if not bool(seen.any()):
            raise ValueError("no tokens were seen, so there are no sums by cluster")
        kept = {f: self._sums[f][seen.to(self._sums[f].device)].cpu().numpy().astype(np.float64) for f in self.fields}
        return ClusterTable(self._tokens[seen].numpy(), kept.get("fires"), kept.get("abs"), kept.get("square"))

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        return {"tokens": self._tokens, **{f"sums.{f}": t for f, t in self._sums.items()}}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        self._tokens = state["tokens"].clone()
        self._sums = {name.removeprefix("sums."): t.clone() for name, t in state.items() if name != "tokens"}
