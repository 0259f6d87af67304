"""Counts and moments of every unit, with and without the first token of each text.

Symbols: n = tokens, d = units, M_p = sum over tokens of (h - mean)^p. Each batch is centred on its own mean in float32 and merged in float64
(Chan, Golub and LeVeque 1979; Pébay 2008 for the third and fourth), so that neither a large mean nor many tokens cost digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.precision import rows_at_once, wide_device

Vector = np.ndarray
PARTS = ("first", "rest")
Positions = Literal["all", "no_first"]


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """n tokens, and for each of d units: fires (tokens on which h > threshold), mean, abs_sum (sum of |h|) and central sums m2, and m3, m4 where
    they were asked for (else None). float64."""

    n: int
    fires: Vector
    mean: Vector
    abs_sum: Vector
    m2: Vector
    m3: Vector | None
    m4: Vector | None

    @property
    def rate(self) -> Vector:
        """Share of tokens on which each unit fires."""
        return self.fires / self.n

    @property
    def fourth(self) -> Vector:
        """m4. Raises ValueError where it was not asked for."""
        if self.m4 is None:
            raise ValueError("fourth moments were not collected: make UnitMoments with order=4")
        return self.m4

    @property
    def square_sum(self) -> Vector:
        """Sum of h^2 of each unit."""
        return self.m2 + self.n * self.mean**2


class UnitMoments:
    """Counts h > threshold, sums |h|, and central moments up to `order` (2 or 4) of every unit. State: a few numbers a unit."""

    def __init__(self, order: Literal[2, 4] = 2, threshold: float = 0.0, *, magnitudes: bool = True) -> None:
        self.order, self.threshold, self.magnitudes = order, threshold, magnitudes
        self._parts: dict[str, _Sums] = {}

    def update(self, values: torch.Tensor, tokens: Tokens) -> None:
        """Take rows [n, d], the first tokens of texts in front."""
        for part, some in zip(PARTS, (values[: tokens.n_first], values[tokens.n_first :]), strict=True):
            for block in some.split(rows_at_once(some)):
                if len(block):
                    found = self._sums(block.float())
                    before = self._parts.get(part)
                    self._parts[part] = found if before is None else before.at(found.mean.device).merged(found)

    def result(self, positions: Positions = "all") -> UnitStatistics:
        """What was seen of all tokens, or of all but the first of every text. Raises ValueError where there was none."""
        parts = [self._parts[p] for p in PARTS if p in self._parts and (p == "rest" or positions == "all")]
        if not parts:
            raise ValueError(f"no tokens were seen (positions: {positions}), so there are no moments")
        whole = parts[0] if len(parts) == 1 else parts[0].merged(parts[1])
        return UnitStatistics(whole.n, *(None if t is None else t.cpu().numpy() for t in whole.tensors()))  # type: ignore[arg-type]

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors from which `load` goes on."""
        found = {}
        for part, sums in self._parts.items():
            found[f"{part}.n"] = torch.tensor(sums.n)
            found |= {f"{part}.{name}": t for name, t in zip(_NAMES, sums.tensors(), strict=True) if t is not None}
        return found

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a state."""
        self._parts = {
            part: _Sums(int(state[f"{part}.n"]), *(state.get(f"{part}.{name}") for name in _NAMES))  # type: ignore[arg-type]
            for part in PARTS
            if f"{part}.n" in state
        }

    def _sums(self, rows: torch.Tensor) -> _Sums:
        """Sums of one batch: products with a row of ones are several times faster than reductions along the first axis."""
        n = len(rows)
        ones = rows.new_ones(1, n)
        fires = ones @ torch.gt(
            rows, self.threshold, out=torch.empty_like(rows)
        )  # exact: a batch has far fewer than 2^24 rows
        pivot = rows.sum(0) / n
        centred = rows - pivot
        squares = centred * centred
        powers = [ones @ centred, ones @ squares]
        if self.order == 4:
            powers += [ones @ (squares * centred), ones @ (squares * squares)]
        absolute = ones @ rows.abs() if self.magnitudes else torch.zeros_like(pivot)
        where = wide_device(rows.device)
        wide = (t.reshape(-1).to(where).to(torch.float64) for t in (fires, pivot, absolute, *powers))
        return _about_mean(n, *wide)


def _about_mean(
    n: int,
    fires: torch.Tensor,
    pivot: torch.Tensor,
    absolute: torch.Tensor,
    s1: torch.Tensor,
    s2: torch.Tensor,
    s3: torch.Tensor | None = None,
    s4: torch.Tensor | None = None,
) -> _Sums:
    """Sums of powers about a pivot become sums about the mean, which lies s1 / n from it: a pivot in float32 is not the mean to the last digit."""
    r = s1 / n
    m3 = None if s3 is None else s3 - 3 * r * s2 + 2 * n * r**3
    m4 = None if s3 is None or s4 is None else s4 - 4 * r * s3 + 6 * r**2 * s2 - 3 * n * r**4
    return _Sums(n, fires, pivot + r, absolute, s2 - n * r**2, m3, m4)


_NAMES = ("fires", "mean", "abs", "m2", "m3", "m4")


@dataclass(frozen=True, slots=True)
class _Sums:
    n: int
    fires: torch.Tensor
    mean: torch.Tensor
    absolute: torch.Tensor
    m2: torch.Tensor
    m3: torch.Tensor | None
    m4: torch.Tensor | None

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        return self.fires, self.mean, self.absolute, self.m2, self.m3, self.m4

    def at(self, device: torch.device) -> _Sums:
        """The same sums on a device: a state that was read from a file lies on the CPU."""
        if self.mean.device == device:
            return self
        m3, m4 = (None if t is None else t.to(device) for t in (self.m3, self.m4))
        fires, mean, absolute, m2 = (t.to(device) for t in (self.fires, self.mean, self.absolute, self.m2))
        return _Sums(self.n, fires, mean, absolute, m2, m3, m4)

    def merged(self, other: _Sums) -> _Sums:
        a, b = self.n, other.n
        n, delta = a + b, other.mean - self.mean
        m2 = self.m2 + other.m2 + delta**2 * (a * b / n)
        m3 = m4 = None
        if self.m3 is not None and other.m3 is not None and self.m4 is not None and other.m4 is not None:
            m3 = self.m3 + other.m3 + delta**3 * (a * b * (a - b) / n**2) + 3 * delta * (a * other.m2 - b * self.m2) / n
            m4 = (
                self.m4
                + other.m4
                + delta**4 * (a * b * (a * a - a * b + b * b) / n**3)
                + 6 * delta**2 * (a * a * other.m2 + b * b * self.m2) / n**2
                + 4 * delta * (a * other.m3 - b * self.m3) / n
            )
        mean = self.mean + delta * (b / n)
        return _Sums(n, self.fires + other.fires, mean, self.absolute + other.absolute, m2, m3, m4)
