"""Rows with a planted dictionary, as sources to train on and to hold out."""

from __future__ import annotations

import numpy as np
import torch

from trialplate.sae.source import Subset, from_tensor, split
from trialplate.tasks.planted_dictionaries import Planted, planted


def truth(n: int = 2000, *, n_features: int = 12, d: int = 8, active: float = 2.0, seed: int = 0) -> Planted:
    """n rows of a few features, a few of which are active at a time."""
    return planted("independent", n_features, d, n, active, np.random.default_rng(seed))


def sources(found: Planted, offset: float = 0.5) -> tuple[Subset, Subset]:
    """(rows to train on, held-out rows): the rows of a planted dictionary about a mean that is not zero, on a scale of their own."""
    x = 3.0 * (torch.from_numpy(found.x) + offset)
    return split(from_tensor(x, name="planted"), 0.2, seed=0)
