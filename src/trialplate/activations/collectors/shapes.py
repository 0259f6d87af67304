"""Sparsity of every token (population measures), summed by cluster: what means over tokens with intervals over texts are made of."""

from __future__ import annotations

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.moments import PARTS, Positions
from trialplate.metrics.sparsity import TOKEN_MEASURES, cluster_sums, token_sparsity


class TokenShapes:
    """Sums of the measures of `metrics.sparsity.token_sparsity`, with and without the first token of each text. State: clusters x measures."""

    def __init__(self, n_clusters: int, threshold: float = 0.0) -> None:
        self.n_clusters, self.threshold = n_clusters, threshold
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, torch.Tensor] = {}

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        measures = token_sparsity(values, threshold=self.threshold)
        for part, some in zip(PARTS, (slice(None, tokens.n_first), slice(tokens.n_first, None)), strict=True):
            cluster = tokens.cluster[some]
            if len(cluster):
                sums, counts = cluster_sums({n: m[some] for n, m in measures.items()}, cluster, self.n_clusters)
                self._sums[part] = sums + self._sums[part].to(sums.device) if part in self._sums else sums
                self._counts[part] = counts + self._counts[part].to(sums.device) if part in self._counts else counts

    def result(self, positions: Positions = "all") -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{measure: (sums [c], tokens on which it is defined [c])}. Raises ValueError where no token was seen."""
        parts = [p for p in PARTS if p in self._sums and (p == "rest" or positions == "all")]
        if not parts:
            raise ValueError(f"no tokens were seen (positions: {positions}), so nothing is known of their sparsity")
        sums = torch.stack([self._sums[p] for p in parts]).sum(0).cpu().numpy()
        counts = torch.stack([self._counts[p] for p in parts]).sum(0).cpu().numpy()
        return {name: (sums[:, i], counts[:, i]) for i, name in enumerate(TOKEN_MEASURES)}

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        return {f"{p}.sums": t for p, t in self._sums.items()} | {f"{p}.counts": t for p, t in self._counts.items()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        self._sums = {p: state[f"{p}.sums"].clone() for p in PARTS if f"{p}.sums" in state}
        self._counts = {p: state[f"{p}.counts"].clone() for p in PARTS if f"{p}.counts" in state}
