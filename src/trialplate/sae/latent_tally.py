"""What every latent does on a stream of tokens: how often it fires, how strongly, and which latents a page of a few of them should show.

Symbols: m latents, n tokens. Three numbers a latent are kept, however many tokens go by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from trialplate.activations.batches import Tokens
from trialplate.sae.coder import Coder
from trialplate.sae.latents import Latents

_ENTRIES = 1 << 24  # pre-activations at once: 64 MB

BY_MASS, BY_CHANCE = "mass", "sample"
"""Why a latent is shown: it is among those with the largest firing mass, or it was drawn from all others that fire."""


class Tally:
    """A collector of firings c_j, mass sum |f_j| and maximum max |f_j| of every latent; `n_tokens` rows were seen. Negative activations count by size."""

    def __init__(self, coder: Coder) -> None:
        m, device = coder.config.d_sae, coder.W_dec.device
        self.coder, self.n_tokens = coder, 0
        self._fired = torch.zeros(m, dtype=torch.long, device=device)
        self._mass = torch.zeros(m, dtype=torch.float64, device=device)
        self._most = torch.zeros(m, dtype=torch.float32, device=device)

    @torch.no_grad()
    def update(self, values: Float[Tensor, "n d"], tokens: Tokens) -> None:
        """Take the rows of a batch."""
        for _, code in encoded(self.coder, values):
            size = code.value.float().abs()
            self._fired += code.firings()
            self._mass.index_add_(0, code.index, size.double())
            self._most.scatter_reduce_(0, code.index, size, "amax")
        self.n_tokens += len(values)

    @property
    def fired(self) -> NDArray[np.int64]:
        """[m] tokens on which each latent is not zero."""
        return self._fired.cpu().numpy()

    @property
    def mass(self) -> NDArray[np.float64]:
        """[m] sum of the sizes of each latent's activations."""
        return self._mass.cpu().numpy()

    @property
    def most(self) -> NDArray[np.float32]:
        """[m] the largest size; 0 for a latent that never fired."""
        return self._most.cpu().numpy()


def encoded(coder: Coder, values: Float[Tensor, "n d"]) -> Iterator[tuple[int, Latents]]:
    """(number of the first row, latents) of pieces of a batch that are small enough for their pre-activations."""
    step = max(1, _ENTRIES // coder.config.d_sae)
    for low in range(0, len(values), step):
        yield low, coder.encode(values[low : low + step].to(coder.W_dec))


def choose(tally: Tally, n: int, rng: np.random.Generator) -> dict[int, str]:
    """At most n latents and why each is shown: half (rounded up) by firing mass, largest first, the rest drawn evenly from all others that fire.

    The first half is what the coder uses most and says nothing of the typical latent; the second half does."""
    alive = np.flatnonzero(tally.fired)
    by_mass = alive[np.argsort(-tally.mass[alive], kind="stable")]
    first = by_mass[: -(-n // 2)]
    others = by_mass[len(first) :]
    drawn = rng.choice(others, min(n - len(first), len(others)), replace=False) if len(others) else others
    return {int(j): BY_MASS for j in first} | {int(j): BY_CHANCE for j in np.sort(drawn)}
