"""What a trained coder is worth, in a few numbers that are taken from rows it never saw. Intervals and everything else: `evaluate.core_scores`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trialplate.metrics.reconstruction import ReconstructionSums
from trialplate.sae.coder import Coder
from trialplate.sae.evaluate import EV_DEFINITION
from trialplate.sae.source import Source

_AT_ONCE = 4096


def chosen_rows(source: Source, most: int | None, seed: int) -> Int[Tensor, " n"]:
    """Numbers of the rows that are measured: all, or a uniform sample of at most so many, ascending."""
    if most is None or most >= source.n_rows:
        return torch.arange(source.n_rows)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(source.n_rows)[:most]))


@torch.inference_mode()
def held_out_scores(coder: Coder, source: Source, index: Int[Tensor, " n"], batch: int = _AT_ONCE) -> dict[str, Any]:
    """Of a coder that reads raw activations, as it is at inference, on some rows of a source:

    ev         explained variance about the mean (`ev_definition`), at most 1; below 0 is worse than predicting the mean
    l0         mean number of latents that are not zero
    mse        E ||y - y'||^2, squared distance of a token in raw units
    dead_frac  share of latents that are zero on all of these rows (`n_rows` of them)

    ValueError for rows that do not vary."""
    sums = ReconstructionSums()
    fired = torch.zeros(coder.config.d_sae, dtype=torch.long)
    active = 0
    device = coder.W_dec.device
    for part in index.split(batch):
        x, y = (rows.to(device) for rows in source.rows(part))
        latents = coder.encode(x)
        sums.update(y, coder.decode(latents, x))
        fired += latents.firings().cpu()
        active += int(latents.active().sum())
    return {
        "ev": sums.explained_variance(),
        "ev_definition": EV_DEFINITION,
        "l0": active / len(index),
        "mse": sums.mse(),
        "dead_frac": float((fired == 0).double().mean()),
        "n_rows": len(index),
    }
