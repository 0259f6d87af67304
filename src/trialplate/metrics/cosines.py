"""Cosines between the rows of two dictionaries: nearest rows in blocks, and the best matching. What similarity and recovery share.

Symbols: A [m_a, d], B [m_b, d] rows of two dictionaries (decoders, or planted features), one direction a row; S = cosines [m_a, m_b], or their
absolute values. Rows need not be unit. Shapes are taken as they are: a row is a direction however the sizes compare, and nothing is transposed.
numpy arrays and tensors are taken alike; products run where tensors lie, in float32, or in float64 where an argument is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Rows = np.ndarray | Tensor

LARGEST_MATCHING = (
    8192  # 12 s and 1.4 GB for random directions; time (cubic at worst) and memory (quadratic) grow fast from here
)
_NUMBERS_AT_ONCE = 1 << 22  # cosines held in memory: 16 MB


class Nearest(NamedTuple):
    """The largest cosine of every row of one dictionary, and which row of the other has it (of equal ones the first).

    cosine: [m] in [-1, 1].   row: [m]."""

    cosine: Float[np.ndarray, " m"]
    row: Int[np.ndarray, " m"]


class Matching(NamedTuple):
    """Pairs (a, b), each row at most once, min(m_a, m_b) of them, ascending in a, with their cosines."""

    a: Int[np.ndarray, " pairs"]
    b: Int[np.ndarray, " pairs"]
    cosine: Float[np.ndarray, " pairs"]


def unit_rows(rows: Rows, name: str = "the dictionary") -> Float[Tensor, "m d"]:
    """Rows divided by their norms. ValueError for anything but a finite matrix [m, d] without zero rows: a dead latent has no direction."""
    # a copy: arrays may be read-only, or views that torch cannot take
    matrix = rows.detach() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows, order="C"))
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"{name} is a matrix [m, d] with one direction a row, got shape {list(matrix.shape)}")
    matrix = matrix if matrix.dtype == torch.float64 else matrix.float()
    largest = matrix.abs().amax(dim=1, keepdim=True)  # squares of tiny or huge rows must neither vanish nor overflow
    if not torch.isfinite(largest).all():
        raise ValueError(
            f"{name} holds NaN or infinity in row {int((~torch.isfinite(largest)).nonzero()[0, 0])}; look at its training, do not drop the row"
        )
    zero = (largest == 0).squeeze(1).nonzero().squeeze(1)
    if len(zero):
        raise ValueError(
            f"{len(zero)} of {len(matrix)} rows of {name} are zero, first {int(zero[0])}: a latent without a direction has no cosine. "
            "Pass the rows that are alive, rows[alive], and say so beside the number"
        )
    matrix = matrix / largest
    return matrix / torch.linalg.vector_norm(matrix, dim=1, keepdim=True)


def both_unit(a: Rows, b: Rows) -> tuple[Float[Tensor, "m_a d"], Float[Tensor, "m_b d"]]:
    """Unit rows of two dictionaries of one width, in one dtype. ValueError where the widths differ."""
    one, two = unit_rows(a, "the first dictionary"), unit_rows(b, "the second dictionary")
    if one.shape[1] != two.shape[1]:
        raise ValueError(
            f"directions of one space are compared, got rows {list(one.shape)} and {list(two.shape)}; both are [m, d] with the same d, "
            "and nothing is transposed to make them fit"
        )
    dtype = torch.promote_types(one.dtype, two.dtype)
    return one.to(dtype), two.to(one.device, dtype)


def cosines(a: Rows, b: Rows, *, absolute: bool = False) -> Float[Tensor, "m_a m_b"]:
    """S, all of it: m_a m_b numbers, within [-1, 1] whatever the rounding."""
    one, two = both_unit(a, b)
    return _cosines(one, two, absolute)


def nearest(a: Rows, b: Rows, *, absolute: bool = False) -> tuple[Nearest, Nearest]:
    """For every row of A the nearest of B, and for every row of B the nearest of A; S is made once, in blocks that are not kept.

    Work: m_a m_b d; two decoders of 32,768 latents and d 512 take 35 s on one core, and 0.2 GB."""
    one, two = both_unit(a, b)
    cosine_a, row_a = one.new_empty(len(one)), torch.empty(len(one), dtype=torch.long, device=one.device)
    cosine_b, row_b = one.new_full((len(two),), -torch.inf), torch.zeros(len(two), dtype=torch.long, device=one.device)
    rows = min(len(one), max(1, _NUMBERS_AT_ONCE // len(two)))
    # one buffer for all blocks: a new one each time leaves gaps in the heap that add up to all of S
    buffer = one.new_empty(rows, len(two))
    for start in range(0, len(one), rows):
        part = slice(start, start + rows)
        block = _cosines(one[part], two, absolute, out=buffer[: len(one[part])])
        cosine_a[part], row_a[part] = block.max(dim=1)
        cosine, row = block.max(dim=0)
        nearer = cosine > cosine_b
        cosine_b, row_b = torch.where(nearer, cosine, cosine_b), torch.where(nearer, row + start, row_b)
    return Nearest(_numpy(cosine_a), _numpy(row_a)), Nearest(_numpy(cosine_b), _numpy(row_b))


def hungarian(a: Rows, b: Rows, *, absolute: bool = False, largest: int = LARGEST_MATCHING) -> Matching:
    """The one-to-one matching of the largest sum of cosines (Kuhn 1955, in the form of `scipy.optimize.linear_sum_assignment`).

    Work: cubic in m at worst; of random directions 0.1 s at 1,024 latents a side, 2.5 s at 4,096, 12 s at 8,192; 20 m_a m_b bytes. ValueError above
    `largest` latents a side."""
    one, two = both_unit(a, b)
    refuse_large(len(one), len(two), largest)
    return assign(_cosines(one, two, absolute))


def assign(score: Float[Tensor, "m_a m_b"]) -> Matching:
    """The one-to-one matching of the largest sum of a score that is given whole; `cosine` of the result holds the scores."""
    table = _numpy(score)
    row, column = linear_sum_assignment(table, maximize=True)
    return Matching(row, column, table[row, column])


def refuse_large(m_a: int, m_b: int, largest: int) -> None:
    """ValueError for a matching that would take more than its caller may expect."""
    if max(m_a, m_b) > largest:
        raise ValueError(
            f"a matching of {m_a} and {m_b} latents is above {largest}: its time grows with the cube at worst (12 s at 8,192, minutes at 32,768) "
            f"and it takes {20 * m_a * m_b / 1e9:.1f} GB; use mean_max_cosine or mutual_nearest, or allow it by largest="
        )


def _cosines(one: Tensor, two: Tensor, absolute: bool, out: Tensor | None = None) -> Tensor:
    product = torch.mm(one, two.T, out=out).clamp_(-1, 1)
    return product.abs_() if absolute else product


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.float64 if tensor.is_floating_point() else np.int64)
