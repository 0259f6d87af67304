"""Firing patterns whose modules are known: what a measure of modularity has to find, and what it must not find where there is none."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

_SHARE_ON = 0.1  # of tokens on which a module is on
_LEAST_RATE = 0.02


def planted_patterns(
    n_tokens: int, n_units: int, n_modules: int, strength: float, rng: np.random.Generator
) -> tuple[Bool[np.ndarray, "token unit"], Int[np.ndarray, " unit"]]:
    """(fires, module of each unit): units of one module fire together, those of two modules do not know of each other.

    Each module is on for a tenth of the tokens, drawn anew for every token. Unit i has a rate r, log-uniform between 0.02 and 0.1, and
    keeps it whatever the strength s; it fires with p_on where its module is on, and with p_off elsewhere:

        p_on = r + s (r / 0.1 - r),   p_off = (r - 0.1 p_on) / 0.9

    so s = 0 is independence, and s = 1 is firing only while the module is on. Two units of rate 0.1 have a correlation of s^2.
    Modules are dealt in turn: unit i belongs to module i mod n_modules. ValueError for s outside [0, 1] or sizes below 1."""
    if min(n_tokens, n_units, n_modules) < 1 or n_modules > n_units:
        raise ValueError(
            f"planting wants tokens, units and modules, and a unit for each module; got {n_tokens}, {n_units} and {n_modules}"
        )
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of a module lies between 0 (none) and 1, got {strength}")
    labels = np.arange(n_units) % n_modules
    rate = np.exp(rng.uniform(np.log(_LEAST_RATE), np.log(_SHARE_ON), n_units))
    p_on = rate + strength * (rate / _SHARE_ON - rate)
    p_off = (rate - _SHARE_ON * p_on) / (1 - _SHARE_ON)
    module_on = rng.random((n_tokens, n_modules)) < _SHARE_ON
    return rng.random((n_tokens, n_units)) < np.where(module_on[:, labels], p_on, p_off), labels
