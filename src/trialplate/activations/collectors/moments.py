"""Counts and moments of every unit, with and without the first token of each text.

Symbols: n = tokens, d = units, M_p = sum over tokens of (h - mean)^p. Each batch is centred on its own mean in float32 and merged in float64
(Chan, Golub and LeVeque 1979; Pébay 2008 for the third and fourth), so that neither a large mean nor many tokens cost digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from trialplate.activations.batches import Tokens
from trialplate.activations.collectors.precision import wide_device

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
        rows = values.float()
        for part, some in zip(PARTS, (rows[: tokens.n_first], rows[tokens.n_first :]), strict=True):
            if len(some):
                found = self._sums(some)
                self._parts[part] = self._parts[part].merged(found) if part in self._parts else found

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
        mean = rows.sum(0) / n
        centred = rows - mean
        squares = centred * centred
        sums = [ones @ squares]
        if self.order == 4:
            sums += [ones @ (squares * centred), ones @ (squares * squares)]
        absolute = ones @ rows.abs() if self.magnitudes else torch.zeros_like(mean)
        where = wide_device(rows.device)
        wide = [t.reshape(-1).to(where, torch.float64) for t in (fires, mean, absolute, *sums)]
        return _Sums(n, *wide, *([None, None] if self.order == 2 else []))


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
