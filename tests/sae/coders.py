"""Coders that the tests of evaluation share."""

from __future__ import annotations

import torch

from trialplate.sae.coder import Coder, initialise
from trialplate.sae.config import CoderConfig


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_coder(architecture: str = "topk", d_in: int = 8, d_sae: int = 24, *, seed: int = 0, **more) -> Coder:
    """Initialised, with biases that are not zero."""
    if architecture in ("topk", "batchtopk", "routed"):
        more = {"k": 4, **more}
    coder = initialise(Coder(CoderConfig(architecture, d_in, d_sae, **more)), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        coder.b_dec.copy_(drawn(coder.config.d_out, seed=seed + 1) / 4)
        if architecture == "batchtopk":
            coder.threshold.fill_(0.5)
    return coder.eval().requires_grad_(False)


def identity(d: int, **more) -> Coder:
    """x = max(x, 0) - max(-x, 0), to the last bit: latent j is the positive part of channel j, latent d + j the negative one."""
    coder = Coder(CoderConfig("relu", d, 2 * d, **more))
    eye = torch.eye(d)
    with torch.no_grad():
        coder.encoder.copy_(torch.cat([eye, -eye]))
        coder.W_dec.copy_(torch.cat([eye, -eye]))
    return coder.eval().requires_grad_(False)
