"""An estimate is a number that carries its uncertainty: value, number of observations, standard error and interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate with the means to judge it.

    value:  the estimate itself; finite.
    n:      observations that it rests on (items or documents, not tokens); at least 1.
    stderr: standard error in the unit of `value`; None where one observation (or one cluster) cannot show any spread.
    ci:     (low, high) at `level`; None exactly when `stderr` is None.
    level:  coverage of the interval, in (0, 1).
    method: how stderr and interval were made, for the report ("Wilson", "Student t", ...).

    Raises ValueError for a number that no report could carry: NaN, infinity, n < 1, an interval that is upside down."""

    value: float
    n: int
    stderr: float | None
    ci: tuple[float, float] | None
    level: float = 0.95
    method: str = ""

    def __post_init__(self) -> None:
        numbers = [self.value, *([] if self.stderr is None else [self.stderr]), *(self.ci or ())]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(
                f"an estimate needs finite numbers, got value={self.value}, stderr={self.stderr}, ci={self.ci} "
                f"({self.method or 'no method named'}); look for overflow or an empty group in what was averaged"
            )
        if self.n < 1:
            raise ValueError(f"an estimate needs at least one observation, got n={self.n}")
        if not 0 < self.level < 1:
            raise ValueError(f"the level of an interval lies between 0 and 1, got {self.level}; 95 % is 0.95")
        if self.stderr is not None and self.stderr < 0:
            raise ValueError(f"a standard error is not negative, got {self.stderr}")
        if (self.stderr is None) != (self.ci is None):
            raise ValueError(f"standard error and interval come together, got stderr={self.stderr}, ci={self.ci}")
        if self.ci is not None and self.ci[0] > self.ci[1]:
            raise ValueError(f"an interval runs from low to high, got {self.ci}")
