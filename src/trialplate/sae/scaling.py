"""Training sees scaled activations; everything on disk and given back reads and writes raw ones. Here is the way between.

Symbols: x' = s x what training reads, y' = r y what it is to make (r = s for an autoencoder), E encoder [m, d_in], W = W_dec [m, d_out].
Folding must leave the function the same and the rows of W at their norm, so latents are what takes the scale: f = f' / r.

    trained   f' = act(E (x' - b_dec') + b_enc'),    y' = f' W + b_dec' + S x'
    folded    E -> (s / r) E    b_enc, b_dec, thresholds -> / r    S -> (s / r) S    router -> s router    W stays

An autoencoder has s = r, so E stays too. A coder that subtracts b_dec from its input needs s = r: its b_dec lives in both spaces at once."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trialplate.sae.coder import Coder
from trialplate.sae.errors import TrainingError
from trialplate.sae.source import Source, spread_rows

MEASURED_ROWS = 1 << 18
"""Rows that scale and centre are measured on, at most, spread evenly over all."""
_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Scales:
    """Factors of inputs (s) and targets (r)."""

    input: float = 1.0
    target: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What training asks of its rows beforehand.

    input, target   mean squared norms E ||x||^2 and E ||y||^2
    mean            E y, [d_out] float64
    index           the rows that this was measured on"""

    input: float
    target: float
    mean: Float[Tensor, " d_out"]
    index: Tensor

    def scales(self, d_in: int, d_out: int) -> Scales:
        """The factors that make E ||x||^2 = d_in and E ||y||^2 = d_out. TrainingError for rows that are all zero."""
        if not (self.input > 0 and self.target > 0):
            raise TrainingError(
                f"rows whose mean squared norms are {self.input:g} and {self.target:g} cannot be scaled; is this the site that was meant?"
            )
        return Scales(math.sqrt(d_in / self.input), math.sqrt(d_out / self.target))


def measure(source: Source, most: int = MEASURED_ROWS) -> Measured:
    """Mean squared norms and the mean target of at most so many rows, evenly spread; sums in float64."""
    index = spread_rows(source, most)
    squares_in = squares_out = 0.0
    total = torch.zeros(source.d_out, dtype=torch.float64)
    for part in index.split(_AT_ONCE):
        x, y = source.rows(part)
        squares_in += float(x.double().square().sum())
        squares_out += float(y.double().square().sum())
        total += y.double().sum(0)
    n = len(index)
    return Measured(squares_in / n, squares_out / n, total / n, index)


@torch.no_grad()
def folded(coder: Coder, scales: Scales) -> Coder:
    """A new coder that reads and writes raw activations and computes the same function; see the formulas above.

    TrainingError for a coder that subtracts b_dec from its input where the two factors differ."""
    c, s, r = coder.config, scales.input, scales.target
    if c.centre_input and s != r:
        raise TrainingError(
            f"a coder that subtracts b_dec from its input has one scale for both sides, got {s} and {r}"
        )
    raw = copy.deepcopy(coder)
    for name in ("b_enc", "b_dec", "threshold"):
        if hasattr(raw, name):
            getattr(raw, name).div_(r)
    if s != r:
        raw.encoder.mul_(s / r)
        if c.skip:
            raw.W_skip.mul_(s / r)
    if c.n_experts is not None:
        raw.router.mul_(s)
    return raw.eval().requires_grad_(False)


def geometric_median(rows: Float[Tensor, "n d"], rounds: int = 100, tolerance: float = 1e-6) -> Float[Tensor, " d"]:
    """The point with the least mean distance to the rows, float64, by Weiszfeld's iteration (1937) from the mean; it stops when a round moves
    it by less than `tolerance` of the mean distance, or after `rounds`."""
    points = rows.double()
    centre = points.mean(0)
    for _ in range(rounds):
        distance = (points - centre).norm(dim=1)
        scale = distance.mean()
        if not bool(scale > 0):
            return centre
        weight = 1 / distance.clamp_min(1e-12 * float(scale))  # a row that is the centre itself would weigh infinitely
        moved = (weight.unsqueeze(1) * points).sum(0) / weight.sum()
        step, centre = float((moved - centre).norm()), moved
        if step < tolerance * float(scale):
            break
    return centre
