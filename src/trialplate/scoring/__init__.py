"""Requests to a causal language model in, log-likelihoods, distributions and generated text out.

`scorer` is what users meet. Behind it: `requests` (texts to token ids), `plan` (which tokens go through the model together), `forward` (run a plan),
`sinks` (what is kept of the logits), `generation`, `cache` and `identity` (answers on disk), `few_shot`, `noise`, `results`.
Importing the package imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "CacheError": "cache",
    "ChoiceScores": "results",
    "ContinuationScore": "results",
    "NumericNoise": "noise",
    "RequestError": "requests",
    "ResponseCache": "cache",
    "RollingScore": "results",
    "Scorer": "scorer",
    "ScoringError": "sinks",
    "TokenScores": "results",
    "few_shot": "shots",
    "numeric_noise": "noise",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
