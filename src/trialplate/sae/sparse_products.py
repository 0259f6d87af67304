"""The products of a training step that know which entries of the code are not zero. Symbols: n tokens, m latents, nnz entries of the code,
code f, dictionary W [m, d_out], x [n, d_in], y [n, d_out] wanted, y' made.

With k of m latents active, decoding and all gradients behind it touch n k d numbers in place of n m d: what stays dense in a step is the one
product that gives the pre-activations. Two ways to compute the sparse ones, which differ in rounding only:

    torch   embedding bags; any device and dtype
    numba   compiled loops where they are faster (searching, decoding), float32 on a CPU, one thread; wants the extra numba

Gradients at the places of zeros are never formed: a latent that is not active has none, and a latent active nowhere has gradient rows of zeros."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from trialplate.sae.errors import TrainingError
from trialplate.sae.latents import Latents

KernelName = Literal["torch", "numba"]
KERNELS: tuple[str, ...] = get_args(KernelName)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a code made, and how its squared error pulls on it. With L = scale / 2 sum_i ||y'_i - y_i||^2:

    y_hat    [n, d_out]
    pull     [n, d_out], dL / dy' = scale (y' - y)
    slope    [nnz], dL / df at the entries of the code: <pull_i, W_j>
    squared  sum_i ||y'_i - y_i||^2, float64"""

    y_hat: Float[Tensor, "n d_out"]
    pull: Float[Tensor, "n d_out"]
    slope: Float[Tensor, " entries"]
    squared: Float[Tensor, ""]


class Products(Protocol):
    """What there is a compiled form of. Where pre-activations are NaN, what is found is not said; they are looked for elsewhere."""

    def largest(self, pre: Float[Tensor, "n m"], width: int, k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """(values, columns) of the k largest of the first `width` entries of every row, in no order; of equal ones at the edge, any."""
        ...

    def above(
        self, pre: Float[Tensor, "n m"], width: int, limit: float
    ) -> tuple[Float[Tensor, " found"], Int[Tensor, " found"]]:
        """(values, places i width + j) of the entries of the first `width` columns that are above a limit; places rise."""
        ...

    def decode(
        self,
        code: Latents,
        dictionary: Float[Tensor, "m d_out"],
        offset: Float[Tensor, "one_or_n d_out"],
        y: Float[Tensor, "n d_out"],
        scale: float,
    ) -> Decoded:
        """y' = f W + offset, and how far it is from y."""
        ...


class TorchProducts:
    """Embedding bags: the weights of a bag are a token's activations, and the gradient of those weights is the slope."""

    def largest(self, pre: Tensor, width: int, k: int) -> tuple[Tensor, Tensor]:
        """See `Products`."""
        value, index = pre[:, :width].topk(k, dim=1, sorted=False)
        return value, index

    def above(self, pre: Tensor, width: int, limit: float) -> tuple[Tensor, Tensor]:
        """See `Products`."""
        place = (pre[:, :width] > limit).reshape(-1).nonzero().squeeze(1)
        return pre[place // width, place % width], place

    def decode(self, code: Latents, dictionary: Tensor, offset: Tensor, y: Tensor, scale: float) -> Decoded:
        """See `Products`."""
        value = code.value.detach().requires_grad_()
        with torch.enable_grad():
            written = Latents(code.starts, code.index, value, code.d_sae).times(dictionary.detach())
        y_hat = written.detach().add_(offset)
        pull = y_hat - y
        squared = torch.linalg.vector_norm(pull, dim=1).double().square().sum()
        pull.mul_(scale)
        slope = torch.autograd.grad(written, value, pull)[0] if len(value) else value.detach()
        return Decoded(y_hat, pull, slope, squared)


class NumbaProducts:
    """Compiled loops of `step_kernels`. TrainingError where numba is not installed."""

    def __init__(self) -> None:
        self._compiled = _compiled()
        self._value, self._place = np.empty(0, np.float32), np.empty(0, np.int64)

    def largest(self, pre: Tensor, width: int, k: int) -> tuple[Tensor, Tensor]:
        """See `Products`. Where k is large beside the width, too many blocks would have to be looked through, and torch does it."""
        if width < 2 * k * self._compiled.BLOCK:
            value, index = pre[:, :width].topk(k, dim=1, sorted=False)
            return value, index
        value, index = pre.new_empty(len(pre), k), torch.empty(len(pre), k, dtype=torch.long, device="cpu")
        self._compiled.largest(pre.numpy(), width, k, value.numpy(), index.numpy())
        return value, index

    def above(self, pre: Tensor, width: int, limit: float) -> tuple[Tensor, Tensor]:
        """See `Products`. The lists are kept, and grow to what was needed."""
        found = -1
        while found < 0 or found >= len(self._value):
            room = max(found + found // 4, len(self._value)) + 1
            if room > len(self._value):
                self._value, self._place = np.empty(room, np.float32), np.empty(room, np.int64)
            found = self._compiled.above(pre.numpy(), width, np.float32(limit), self._value, self._place)
        return torch.from_numpy(self._value[:found].copy()), torch.from_numpy(self._place[:found].copy())

    def decode(self, code: Latents, dictionary: Tensor, offset: Tensor, y: Tensor, scale: float) -> Decoded:
        """See `Products`."""
        y_hat, pull, slope = y.new_empty(y.shape), y.new_empty(y.shape), torch.empty_like(code.value)
        arrays = [t.detach().contiguous().numpy() for t in (code.starts, code.index, code.value, dictionary, offset, y)]
        out = [t.numpy() for t in (y_hat, pull, slope)]
        squared = self._compiled.decode(*arrays, np.float32(scale), *out)
        return Decoded(y_hat, pull, slope, torch.tensor(squared, dtype=torch.float64))


def products(kernels: str) -> Products:
    """The products by a name of KERNELS. TrainingError for another name, and for numba where it is not installed."""
    if kernels not in KERNELS:
        raise TrainingError(f"no kernels {kernels!r} for a sparse step; there are {', '.join(KERNELS)}")
    return NumbaProducts() if kernels == "numba" else TorchProducts()


def by_latent(code: Latents) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"], Int[Tensor, " d_sae"]]:
    """(order, tokens, firsts): entries sorted by latent and then by token, the token of each, and where the entries of each latent begin."""
    width = torch.int16 if code.d_sae <= torch.iinfo(torch.int16).max else torch.int32  # short keys sort faster
    order = code.index.to(width).argsort(stable=True)
    firsts = torch.zeros(code.d_sae, dtype=torch.long, device=order.device)
    torch.cumsum(torch.bincount(code.index, minlength=code.d_sae)[:-1], 0, out=firsts[1:])
    return order, code.rows[order], firsts


def summed(
    rows: Float[Tensor, "n d"],
    weights: Float[Tensor, " entries"],
    tokens: Int[Tensor, " entries"],
    firsts: Int[Tensor, " d_sae"],
) -> Float[Tensor, "d_sae d"]:
    """For every latent the weighted sum of its tokens' rows: f^T rows for sparse f, with entries in the order of `by_latent`."""
    if len(tokens) == 0:
        return rows.new_zeros(len(firsts), rows.shape[1])
    return F.embedding_bag(tokens, rows, firsts, mode="sum", per_sample_weights=weights)


def _compiled() -> ModuleType:
    try:
        from trialplate.sae import step_kernels
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        raise TrainingError(
            "the kernels numba of a sparse step need numba, which is not installed: pip install 'trialplate[numba]', or use the kernels torch (backend sparse)"
        ) from error
    return step_kernels
