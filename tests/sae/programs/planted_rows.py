"""Rows with planted features that the tests of programs train on: 16 directions in 12 channels, two active a token."""

from functools import cache

import numpy as np
import torch

from trialplate.sae.config import CoderConfig
from trialplate.sae.settings import TrainingSettings
from trialplate.sae.source import Subset, from_tensor, split
from trialplate.tasks.planted_dictionaries import planted

D, M = 12, 16
SETTINGS = TrainingSettings(steps=60, batch_size=64, lr=2e-2, aux=0.0, log_every=60)
TOPK = CoderConfig("topk", D, M, k=2, site_in="L1.resid_post", site_out="L1.resid_post", model="planted")


@cache
def rows(n: int = 1000, features: int = 0) -> tuple[Subset, Subset]:
    """(to train on, held out); `features` numbers other directions."""
    found = planted("independent", M, D, n, 2.0, np.random.default_rng(features))
    return split(from_tensor(torch.from_numpy(found.x), name=f"planted {features}"), 0.2, 0)


@cache
def noise() -> tuple[Subset, Subset]:
    """Rows of the same size in which there is no direction to find."""
    x = np.random.default_rng(5).standard_normal((1000, D), dtype=np.float32)
    return split(from_tensor(torch.from_numpy(x), name="noise"), 0.2, 0)
