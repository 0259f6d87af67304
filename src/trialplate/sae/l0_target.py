"""A controller that moves the coefficient of a sparsity penalty until the number of active latents is what was asked for, so that architectures
can be compared at the same L0.

Symbols: c coefficient, b its slow part, L running mean of a batch's L0 (over about 1 / (1 - MEMORY) steps), T the target, lr the learning rate.

    e = clip(log(L / T), -1, 1)        log b  <-  log b + GAIN lr e        log c = log b + e

Too many active latents: the penalty grows; too few: it shrinks. The slow part comes to rest where L = T. It moves no faster than Adam can move a
weight, about lr a step: faster, it would have gone too far before the coder has answered. The direct part damps what swinging is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEMORY = 0.9
GAIN = 5.0


@dataclass(slots=True)
class L0Control:
    """What a controller knows: the slow part of the coefficient, and the running L0 (None before the first step)."""

    target: float
    slow: float
    running: float | None = None

    @property
    def coefficient(self) -> float:
        """Of the penalty, now."""
        return self.slow * math.exp(self._error())

    def update(self, l0: float, lr: float) -> None:
        """Take the mean L0 of a batch that was learned from at this learning rate."""
        self.running = l0 if self.running is None else MEMORY * self.running + (1 - MEMORY) * l0
        self.slow *= math.exp(GAIN * lr * self._error())

    def _error(self) -> float:
        if self.running is None:
            return 0.0
        nothing_fires = 1e-3 * self.target  # says "far too few", not minus infinity
        return max(-1.0, min(1.0, math.log(max(self.running, nothing_fires) / self.target)))
