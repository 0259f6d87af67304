"""Random choices that depend on the token and nothing else: whichever way a stream is cut into batches, the same tokens are chosen."""

from __future__ import annotations

import numpy as np
import torch

_WEYL, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def token_keys(document: torch.Tensor, position: torch.Tensor, seed: int) -> np.ndarray:
    """Uniform 64-bit keys [n], one for each (document, position), by the finaliser of SplitMix64 (Steele et al. 2014). The k smallest keys
    of a stream are a uniform sample of k tokens without replacement."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        start = _mixed(np.uint64(seed % 2**63) + _WEYL)
        by_document = _mixed(document.numpy().astype(np.uint64) * _WEYL + start)
        return _mixed(position.numpy().astype(np.uint64) * _WEYL + by_document)


def _mixed(x: np.ndarray | np.uint64) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return np.asarray(x ^ (x >> np.uint64(31)))
