"""Codes of tokens in any of their forms, as columns: what metrics of single latents read.

Symbols: n tokens, m latents. A code [n, m] may be a numpy array, a CPU tensor, a scipy sparse matrix, or an object that holds a token's entries
as CSR does: `starts` [n + 1], `index` and `value` [nnz], and `d_sae`. What counts as active is a value other than zero, everywhere."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from scipy import sparse


class Entries(Protocol):
    """Entries of a code token by token: row i holds `starts[i] : starts[i + 1]` of `index` and `value`."""

    @property
    def starts(self) -> Any: ...
    @property
    def index(self) -> Any: ...
    @property
    def value(self) -> Any: ...
    @property
    def d_sae(self) -> int: ...


Codes: TypeAlias = np.ndarray | torch.Tensor | sparse.sparray | sparse.spmatrix | Entries


def columns(codes: Codes, name: str) -> sparse.csc_array:
    """The code [n, m] as float64 columns without stored zeros, a copy; nnz numbers, whatever m. ValueError for no matrix, no token, NaN or infinity."""
    given = _matrix(codes)
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(f"{name} is a code [tokens, latents], at least one of each; got shape {tuple(given.shape)}")
    table = sparse.csc_array(given, dtype=np.float64, copy=True)
    if not np.isfinite(table.data).all():
        raise ValueError(f"{name} holds activations that are not finite; look for overflow where they were made")
    table.sum_duplicates()
    table.eliminate_zeros()
    return table


def _matrix(codes: Codes) -> Any:
    if sparse.issparse(codes) or isinstance(codes, np.ndarray):
        return codes
    if isinstance(codes, torch.Tensor):
        return _array(codes)
    shape = (len(codes.starts) - 1, codes.d_sae)
    return sparse.csr_array((_array(codes.value), _array(codes.index), _array(codes.starts)), shape=shape)


def _array(part: Any) -> np.ndarray:
    if not isinstance(part, torch.Tensor):
        return np.asarray(part)
    part = part.detach().cpu()
    return (part.double() if part.is_floating_point() else part).numpy()
