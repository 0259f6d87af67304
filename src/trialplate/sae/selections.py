"""Which pre-activations of a batch stay, found while it goes by in pieces of a few hundred tokens, so that pre [n, m] never exists as a whole.

Symbols: n tokens of the batch, m latents, pre [c, m] the pre-activations of the c tokens from number `first` on. A selection is shown every piece
once and in order, and then gives its code. What it keeps is what `activation.TopK` and `activation.BatchTopK` keep of the whole; equal entries at
the edge apart, of which any may stay."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trialplate.sae.latents import Latents
from trialplate.sae.sparse_products import Products

MARGIN = 0.95
"""A batch is searched above so much of the last one's smallest kept entry."""
CROWD = 4
"""Candidates are thinned out when there are so many times as many as stay."""


class Selection(Protocol):
    """Sees a batch piece by piece."""

    def see(self, first: int, pre: Float[Tensor, "c m"]) -> None:
        """The pre-activations of some tokens."""
        ...

    def code(self) -> Latents | None:
        """What stays, over m latents; None where the batch must be seen again, and then gives a code for certain."""
        ...


class RowSelection:
    """The k largest entries of every token among the first `width` latents; negative ones become 0 unless `signed`."""

    def __init__(self, products: Products, m: int, k: int, *, width: int, signed: bool) -> None:
        self._products, self._m, self._k, self._width, self._signed = products, m, k, width, signed
        self._values: list[Tensor] = []
        self._index: list[Tensor] = []

    def see(self, first: int, pre: Tensor) -> None:
        """See `Selection`."""
        value, index = self._products.largest(pre, self._width, self._k)
        self._values.append(value if self._signed else value.relu_())
        self._index.append(index)

    def code(self) -> Latents:
        """k entries a token."""
        return Latents.from_rectangle(torch.cat(self._index), torch.cat(self._values), self._m)


class BatchSelection:
    """The n k largest positive entries of a batch among the first `width` latents.

    The smallest entry that stays, the cut, changes little from batch to batch. Only entries above `limit`, a little below the last cut, are noted:
    where they are at least n k, the n k largest of them are those of the batch, whatever the limit was. Where they are fewer, the limit was too
    high, and the batch is seen again with a limit of 0. So the limit decides how long it takes, never what comes out."""

    def __init__(self, products: Products, n: int, m: int, k: int, *, width: int, limit: float) -> None:
        self._products, self._n, self._m, self._width = products, n, m, width
        self._wanted = min(n * k, n * width)
        self._limit, self._floor = limit, limit
        self._values: list[Tensor] = []
        self._places: list[Tensor] = []
        self._count = 0
        self.next_limit = 0.0
        """What to begin the next batch with, when the code is known."""

    def see(self, first: int, pre: Tensor) -> None:
        """See `Selection`."""
        value, place = self._products.above(pre, self._width, self._floor)
        self._note([*self._values, value], [*self._places, place + first * self._width])
        if self._count > CROWD * self._wanted:
            self._floor = self._thin_out()

    def code(self) -> Latents | None:
        """The entries that stay, by token."""
        if self._count < self._wanted and self._limit > 0:
            self._limit = self._floor = 0.0
            self._note([], [])
            return None
        if self._count > self._wanted:
            self._thin_out()
        value, place = torch.cat(self._values), torch.cat(self._places)
        if self._count == self._wanted:
            self.next_limit = MARGIN * float(value.amin())
        row = place // self._width
        starts = torch.zeros(self._n + 1, dtype=torch.long, device=place.device)
        torch.cumsum(torch.bincount(row, minlength=self._n), 0, out=starts[1:])
        return Latents(starts, place - row * self._width, value, self._m)

    def _note(self, values: list[Tensor], places: list[Tensor]) -> None:
        self._values, self._places = values, places
        self._count = sum(map(len, values))

    def _thin_out(self) -> float:
        """Keep the largest n k candidates, in order; returns the smallest of them. Of equal ones at the edge the first stay."""
        value, place = torch.cat(self._values), torch.cat(self._places)
        cut = value.topk(self._wanted, sorted=False).values.amin()
        stays = value > cut
        level = (value == cut).nonzero().squeeze(1)
        stays[level[: self._wanted - int(stays.sum())]] = True
        self._note([value[stays]], [place[stays]])
        return float(cut)


class DeadSelection:
    """The k largest positive entries of every token among some latents: what the AuxK term reconstructs the residual with."""

    def __init__(self, products: Products, numbers: Int[Tensor, " dead"], n: int, m: int, k: int) -> None:
        self._products, self._numbers, self._m, self._k = products, numbers, m, min(k, len(numbers))
        self._counts = torch.zeros(n + 1, dtype=torch.long, device=numbers.device)
        self._values: list[Tensor] = []
        self._index: list[Tensor] = []

    def see(self, first: int, pre: Tensor) -> None:
        """See `Selection`."""
        value, place = self._products.largest(pre.index_select(1, self._numbers), len(self._numbers), self._k)
        active = value > 0  # the others are zero after the ReLU and have no gradient
        self._counts[first + 1 : first + 1 + len(pre)] = active.sum(1)
        self._values.append(value[active])
        self._index.append(self._numbers[place[active]])

    def code(self) -> Latents:
        """At most k entries a token, all positive."""
        return Latents(self._counts.cumsum(0), torch.cat(self._index), torch.cat(self._values), self._m)
