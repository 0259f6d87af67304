"""Where a few latents fire, with the text around: the strongest firings, and an even sample of all firings, since the strongest are not the typical.

Symbols: c chosen latents, w tokens either side. What is kept does not grow with the number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.keyed import token_keys
from trialplate.sae.coder import Coder
from trialplate.sae.latent_tally import encoded

QUANTILES = (0.9, 0.7, 0.5, 0.3, 0.1)
SAMPLE = 128
"""Firings of a latent from which its quantiles are taken: those with the smallest keys, which is an even sample of all."""


@dataclass(frozen=True, eq=False)
class Firing:
    """One firing. window: activations of the latent on the w tokens before, the token itself and w after; NaN where no token was read."""

    document: int
    position: int
    value: float
    window: NDArray[np.float32]


class Contexts:
    """A collector of firings of chosen latents. A document is whole within one batch."""

    def __init__(self, coder: Coder, latents: Sequence[int], *, top: int, width: int, seed: int) -> None:
        self.coder, self.latents, self.width, self.seed = coder, list(latents), width, seed
        self._index = torch.tensor(self.latents, dtype=torch.long, device=coder.W_dec.device)
        self._top = [_Kept(top, width) for _ in self.latents]
        self._even = [_Kept(SAMPLE, width) for _ in self.latents]

    @torch.no_grad()
    def update(self, values: Float[Tensor, "n d"], tokens: Tokens) -> None:
        """Take the rows of a batch."""
        if not len(values) or not self.latents:
            return
        parts = [code.at(self._index) for _, code in encoded(self.coder, values)]
        dense = torch.cat(parts).float().cpu().numpy()
        document, position = tokens.document.numpy(), tokens.position.numpy()
        grid, place = _grid(document, position, self.width)
        keys = token_keys(tokens.document, tokens.position, self.seed)
        reach = np.arange(2 * self.width + 1)
        for column, (strongest, even) in enumerate(zip(self._top, self._even, strict=True)):
            on = np.flatnonzero(dense[:, column])
            if not len(on):
                continue
            size = np.abs(dense[on, column])
            cells = grid[place[on, None], position[on, None] + reach]
            column_values = np.append(dense[:, column], np.float32(np.nan))  # cell -1 is no token
            rows = _Rows(document[on], position[on], dense[on, column], column_values[cells])
            best = _largest_of_each(document[on], size)
            strongest.add(-size[best].astype(np.float64), rows.of(best))
            even.add(keys[on], rows)

    def strongest(self, number: int) -> list[Firing]:
        """The strongest firings of the chosen latent of this number, at most one a document, strongest first."""
        return self._top[number].firings()

    def quantiles(self, number: int) -> list[tuple[float, Firing]]:
        """A firing at each quantile of the sizes in the even sample, the highest first; fewer where there are fewer firings than quantiles."""
        sample = sorted(self._even[number].firings(), key=lambda one: abs(one.value))
        places = {round(q * (len(sample) - 1)): q for q in reversed(QUANTILES)} if sample else {}
        return [(q, sample[place]) for place, q in sorted(places.items(), reverse=True)]


@dataclass(frozen=True)
class _Rows:
    document: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[np.float32]
    window: NDArray[np.float32]

    def of(self, index: NDArray[np.intp]) -> _Rows:
        return _Rows(self.document[index], self.position[index], self.value[index], self.window[index])


class _Kept:
    """The `most` rows of the smallest keys."""

    def __init__(self, most: int, width: int) -> None:
        self.most, self.keys = most, np.zeros(0)
        none = np.zeros(0, np.int64)
        self.rows = _Rows(none, none, np.zeros(0, np.float32), np.zeros((0, 2 * width + 1), np.float32))

    def add(self, keys: NDArray[np.generic], rows: _Rows) -> None:
        both = np.concatenate([self.keys.astype(keys.dtype), keys])
        order = np.argsort(both, kind="stable")[: self.most]
        names = ("document", "position", "value", "window")
        joined = _Rows(*(np.concatenate([getattr(self.rows, name), getattr(rows, name)]) for name in names))
        self.keys, self.rows = both[order], joined.of(order)

    def firings(self) -> list[Firing]:
        r = self.rows
        return [
            Firing(int(document), int(position), float(value), window)
            for document, position, value, window in zip(r.document, r.position, r.value, r.window, strict=True)
        ]


def _grid(
    document: NDArray[np.int64], position: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """(the cell of every place of every document, with `width` places of -1 either side; the document's row in it of every cell)."""
    names, place = np.unique(document, return_inverse=True)
    grid = np.full((len(names), int(position.max()) + 1 + 2 * width), -1)
    grid[place, position + width] = np.arange(len(document))
    return grid, place


def _largest_of_each(document: NDArray[np.int64], size: NDArray[np.float32]) -> NDArray[np.intp]:
    """Where the largest size of every document is; of equals the first."""
    order = np.lexsort((-size, document))
    first = np.append(True, np.diff(document[order]) != 0)
    return order[first]
