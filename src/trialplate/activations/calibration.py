"""Thresholds for dynamic-k from one pass over texts: the limit of a layer is the size of contribution below which the wished share of units lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trialplate.activations.batches import Tokens
from trialplate.activations.capture import collect, plan_for
from trialplate.activations.dynamic_k import chosen_layers
from trialplate.activations.rules import Threshold, contributions, require_share, row_norms
from trialplate.activations.sites import choose, down_projection
from trialplate.metrics.magnitudes import magnitude_counts, quantile
from trialplate.models.causal_lm import CausalLM


class ContributionCounts:
    """Collects how large c_i = |h_i| ||W_i|| is over all tokens from a position on: 32,768 counts, however many tokens there are."""

    def __init__(self, norms: Tensor, *, skip_first: int = 0) -> None:
        self.norms, self.skip_first = norms, skip_first
        self.counts = torch.zeros(1 << 15, dtype=torch.int64)

    def update(self, values: Tensor, tokens: Tokens) -> None:
        """Take rows [n, d]."""
        if self.skip_first:
            values = values[(tokens.position >= self.skip_first).to(values.device)]
        if len(values):
            self.counts += magnitude_counts(contributions(values, self.norms)).cpu()


def calibrated(
    model: CausalLM,
    documents: Sequence[Sequence[int]],
    kept: Sequence[float],
    layers: Sequence[int] | None = None,
    *,
    protect_first: int = 0,
) -> list[Threshold]:
    """One `Threshold` for every share in `kept`, all from one pass of the dense model over the token ids of documents.

    The limit of a layer is the (1 - share) quantile of c_i over its units and over tokens from position `protect_first` on, exact to 0.8 % of the
    limit; a share of 1 gets a limit below 0, which keeps everything. On other texts, and with earlier layers sparsified, another share
    stays: it is measured wherever the rule runs. Raises ValueError for no share or one outside (0, 1], CaptureError as `collect`."""
    if not len(kept):
        raise ValueError("no share was named; wanted some in (0, 1], such as 0.3")
    for share in kept:
        require_share(share)
    chosen = chosen_layers(model, layers)
    points = choose(model, [f"L{layer}.mlp_act" for layer in chosen])
    collectors = [
        ContributionCounts(row_norms(down_projection(model, layer).rows), skip_first=protect_first) for layer in chosen
    ]
    given = {("text", point.name): [collector] for point, collector in zip(points, collectors, strict=True)}
    collect(model, plan_for(model, {"text": documents}), points, given)
    counts = {layer: collector.counts.numpy() for layer, collector in zip(chosen, collectors, strict=True)}
    return [Threshold({layer: _limit(counts[layer], share) for layer in chosen}, share) for share in kept]


def _limit(counts: NDArray[np.int64], share: float) -> float:
    return -1.0 if share == 1 else quantile(counts, 1 - share)
