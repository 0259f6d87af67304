"""What changes from step to step of a run, as functions of the step's number t = 0 .. T - 1 and nothing else: a run that goes on after a stop
needs no state of them."""

from __future__ import annotations

from trialplate.sae.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, t: int) -> float:
    """lr times a trapezium: t + 1 over the steps of warm-up, then 1, then T - t over the steps of decay, so that the last step still moves.
    Settings are resolved ones. Where warm-up and decay overlap, the lower one holds."""
    if settings.lr is None:
        raise ValueError("a learning rate needs settings with one; resolve them for their coder first")
    last = settings.lr_decay * settings.steps
    fall = (settings.steps - t) / last if last > 0 else 1.0
    return settings.lr * min(1.0, rise(settings.lr_warmup, settings.steps, t), fall)


def rise(share: float, steps: int, t: int) -> float:
    """Linear from near 0 to 1 in the first `share` of the steps, then 1: (t + 1) / (share T)."""
    length = share * steps
    return min(1.0, (t + 1) / length) if length > 0 else 1.0


def active_k(settings: TrainingSettings, k: int | None, t: int) -> int | None:
    """k of a step: from k_start at t = 0 linearly down to the coder's own k at the end of the share k_anneal, rounded to a whole number."""
    length = settings.k_anneal * settings.steps
    if k is None or settings.k_start is None or t >= length:
        return k
    return round(settings.k_start + (k - settings.k_start) * t / length)
