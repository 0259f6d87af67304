"""The code of a batch, kept sparse. Symbols: n tokens, m latents, nnz entries that are not zero.

Row i holds the entries `starts[i] : starts[i + 1]` of `index` and `value`, as in a CSR matrix; a code with k active latents a token costs n k
numbers instead of n m. An entry may be zero (a TopK coder on a token with fewer than k positive pre-activations keeps k entries): what counts
as active is a value other than zero, everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Latents:
    """Sparse activations of n tokens over `d_sae` latents.

    starts  int64 [n + 1]: where each token's entries begin
    index   int64 [nnz]: the latent of every entry; a latent appears at most once a token
    value   [nnz]: its activation
    d_sae   number of latents m"""

    starts: Int[Tensor, " rows"]
    index: Int[Tensor, " entries"]
    value: Float[Tensor, " entries"]
    d_sae: int

    @classmethod
    def from_dense(cls, code: Float[Tensor, "n d_sae"]) -> Latents:
        """The entries of a dense code that are not zero."""
        row, index = code.nonzero(as_tuple=True)
        starts = torch.zeros(len(code) + 1, dtype=torch.long, device=code.device)
        starts[1:] = torch.bincount(row, minlength=len(code)).cumsum(0)
        return cls(starts, index, code[row, index], code.shape[1])

    @classmethod
    def from_rectangle(cls, index: Int[Tensor, "n k"], value: Float[Tensor, "n k"], d_sae: int) -> Latents:
        """k entries of every token."""
        n, k = index.shape
        return cls(torch.arange(0, n * k + 1, k, device=index.device), index.reshape(-1), value.reshape(-1), d_sae)

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.starts) - 1

    @property
    def rows(self) -> Int[Tensor, " entries"]:
        """The token of every entry."""
        return torch.repeat_interleave(self.starts.diff())

    def dense(self) -> Float[Tensor, "n d_sae"]:
        """The code with its zeros; n m numbers."""
        full = torch.zeros(len(self), self.d_sae, dtype=self.value.dtype, device=self.value.device)
        return full.index_put((self.rows, self.index), self.value)

    def active(self) -> Int[Tensor, " n"]:
        """L0 of every token: how many of its latents are not zero."""
        fires = (self.value.detach() != 0).long()
        return torch.zeros(len(self), dtype=torch.long, device=fires.device).index_add_(0, self.rows, fires)

    def firings(self) -> Int[Tensor, " d_sae"]:
        """On how many tokens each latent is not zero."""
        return torch.bincount(self.index[self.value.detach() != 0], minlength=self.d_sae)

    def sums(self) -> Float[Tensor, " d_sae"]:
        """Sum of each latent's activations over the tokens, in float64."""
        total = torch.zeros(self.d_sae, dtype=torch.float64, device=self.value.device)
        return total.index_add_(0, self.index, self.value.detach().double())

    def times(self, dictionary: Float[Tensor, "d_sae d_out"]) -> Float[Tensor, "n d_out"]:
        """The product of the code and a dictionary: for every token the sum of its latents' rows, weighted. Differentiable in both."""
        if len(self.index) == 0:  # zeros that still hang on the dictionary: its gradient is zero, not missing
            return dictionary[:1].sum() * dictionary.new_zeros(len(self), dictionary.shape[1])
        return F.embedding_bag(
            self.index, dictionary, self.starts[:-1], mode="sum", per_sample_weights=self.value.to(dictionary.dtype)
        )

    def scaled(self, factor: float) -> Latents:
        """The same entries, every activation times a factor."""
        return Latents(self.starts, self.index, self.value * factor, self.d_sae)

    def at(self, latents: Int[Tensor, " chosen"]) -> Float[Tensor, "n chosen"]:
        """The columns of some latents, dense, in the order asked for. ValueError for one that is named twice or is not there."""
        if len(latents.unique()) != len(latents) or not bool(((latents >= 0) & (latents < self.d_sae)).all()):
            raise ValueError(f"wanted different latents from 0 to {self.d_sae - 1}, got {latents.tolist()[:20]}")
        place = torch.full((self.d_sae,), -1, dtype=torch.long, device=self.index.device)
        place[latents] = torch.arange(len(latents), device=self.index.device)
        column = place[self.index]
        kept = column >= 0
        full = torch.zeros(len(self), len(latents), dtype=self.value.dtype, device=self.value.device)
        return full.index_put((self.rows[kept], column[kept]), self.value[kept])
