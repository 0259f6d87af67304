"""Rules that say, token by token, which hidden units of an MLP stay and which are treated as zero.

Symbols: h = input of the down projection [n, d] (for a gated MLP the product of gate and up branch); W = rows of the down projection [d, d_out],
unit i writes h_i W_i into the stream; c_i = |h_i| ||W_i||, the size of what it writes. All rules but the random one rank by c_i.

The size of the pre-activation plays no part: GELU and SiLU send large negative inputs to nearly 0, so ranking by it keeps units that write
nothing. Ranking by |h_i| alone (Liu et al. 2024, arXiv:2408.14690) ignores how much a unit writes; with the norm it is the criterion of Chen et al.
2025, arXiv:2505.19427. A unit whose activation is NaN is always kept, so that a broken model stays visibly broken; the random rule alone
cannot promise that."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trialplate.metrics.cett import cett_mask

Mask = Callable[[Tensor], Tensor]
"""Rows [n, d] -> which units stay, bool [n, d]."""


class Rule(Protocol):
    """What decides. `name` and `asked` (a share, or a bound of error) stand in tables."""

    name: ClassVar[str]

    @property
    def asked(self) -> float:
        """The number that sets how much stays."""

    def bind(self, layer: int, rows: Tensor) -> Mask:
        """The rule for one layer, whose down projection has these rows [d, d_out]."""


@dataclass(frozen=True, slots=True)
class TopK:
    """The share k of units with the largest c_i stays, the same number for every token: `kept_units(k, d)`.

    Of units with equal c_i at the edge, any may be the one that stays. Raises ValueError for a k that is not a share in (0, 1]; for an integer
    too, because 1 unit and 1.0 = all units are opposite extremes."""

    k: float
    name: ClassVar[str] = "topk"

    def __post_init__(self) -> None:
        require_share(self.k)

    @property
    def asked(self) -> float:
        return float(self.k)

    def bind(self, layer: int, rows: Tensor) -> Mask:
        n, norms = kept_units(self.k, len(rows)), row_norms(rows)
        return lambda hidden: _largest(contributions(hidden, norms), n)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Units with c_i above the limit of their layer stay. Limits come from `calibration.calibrated`, which also says what share they aim at.

    A limit below 0 keeps everything, also units that are exactly 0. How many stay differs from token to token and is measured.
    Raises ValueError for no limits, a limit that is not a number, or an `aimed` that is not a share in (0, 1]."""

    limits: Mapping[int, float]
    aimed: float
    name: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        require_share(self.aimed)
        if not self.limits or any(math.isnan(limit) for limit in self.limits.values()):
            raise ValueError(
                f"a threshold wants one limit a layer, got {dict(self.limits)}; calibrate it on texts of the task"
            )

    @property
    def asked(self) -> float:
        return float(self.aimed)

    def bind(self, layer: int, rows: Tensor) -> Mask:
        limit, norms = self.limit(layer), row_norms(rows)
        return lambda hidden: ~(contributions(hidden, norms) <= limit)  # so that NaN stays

    def limit(self, layer: int) -> float:
        """The limit of a layer. ValueError for a layer that was not calibrated."""
        if layer not in self.limits:
            raise ValueError(
                f"no threshold for layer {layer}: calibrated were layers {', '.join(map(str, sorted(self.limits)))}. Calibrate it too, or leave it dense"
            )
        return self.limits[layer]


@dataclass(frozen=True, slots=True)
class Cett:
    """Units outside the largest set of small contributions whose sum is at most t of the output (see `metrics.cett`) stay.

    How many stay differs from token to token and is measured. t in [0, 1); larger t keeps less. It costs more than the down projection itself: for
    measuring, not for speed. Activations that are not finite are refused."""

    t: float
    name: ClassVar[str] = "cett"

    def __post_init__(self) -> None:
        if not 0 <= self.t < 1:
            raise ValueError(f"t is the share of the output that may be lost, in [0, 1), got {self.t}; 0.2 is usual")

    @property
    def asked(self) -> float:
        return float(self.t)

    def bind(self, layer: int, rows: Tensor) -> Mask:
        return lambda hidden: cett_mask(hidden, rows, self.t)


@dataclass(frozen=True, slots=True)
class RandomK:
    """The share k of units, drawn anew for every token: what a rule must beat at the same kept share.

    Draws go on from the state of `generator`, whose device need not be that of the model. ValueError as `TopK`."""

    k: float
    generator: torch.Generator
    name: ClassVar[str] = "random"

    def __post_init__(self) -> None:
        require_share(self.k)

    @property
    def asked(self) -> float:
        return float(self.k)

    def bind(self, layer: int, rows: Tensor) -> Mask:
        n = kept_units(self.k, len(rows))

        def mask(hidden: Tensor) -> Tensor:
            drawn = torch.rand(hidden.shape, generator=self.generator, device=self.generator.device)
            return _largest(drawn, n).to(hidden.device)

        return mask


def require_share(k: float) -> None:
    """Raises ValueError unless k is a share in (0, 1], written as a float."""
    if isinstance(k, numbers.Integral):
        raise ValueError(
            f"k is the share of units that stay, a float in (0, 1], got the integer {k!r}: 1.0 keeps all units; to keep n of d units write n / d"
        )
    if not (isinstance(k, numbers.Real) and 0 < k <= 1):
        raise ValueError(f"k is the share of units that stay, in (0, 1], got {k!r}; 0.3 keeps 30 % of them")


def kept_units(k: float, d: int) -> int:
    """Units that a share keeps: k * d to the nearest whole number, halves up, at least 1. k = n / d gives n for every n in 1 .. d."""
    return max(1, math.floor(k * d + 0.5))


def row_norms(rows: Float[Tensor, "d d_out"]) -> Float[Tensor, " d"]:
    """||W_i|| of every unit, in float32 or wider."""
    return torch.linalg.vector_norm(rows.detach(), dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))


def contributions(hidden: Float[Tensor, "n d"], norms: Float[Tensor, " d"]) -> Float[Tensor, "n d"]:
    """c_i = |h_i| ||W_i||, in float32 or wider."""
    return hidden.detach().abs() * norms


def _largest(scores: Float[Tensor, "n d"], n: int) -> Bool[Tensor, "n d"]:
    """The n largest of every row; NaN counts as largest."""
    if n >= scores.shape[-1]:
        return torch.ones_like(scores, dtype=torch.bool)
    chosen = scores.topk(n, dim=-1, sorted=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)
