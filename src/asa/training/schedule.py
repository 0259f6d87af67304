"""The learning rate of a step: linear up, then half a cosine down. A pure function of the step, so it has no state to lose."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, warmup: int, total: int, final_fraction: float) -> float:
    """The rate of step 0 .. total - 1 (the steps taken before it).

    Warm-up: peak * (step + 1) / warmup. After it: from peak at step `warmup` along a cosine (Loshchilov and Hutter 2016,
    arXiv:1608.03983, one cycle) to peak * final_fraction at step total - 1."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - 1 - warmup)
    return peak * (final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2)
