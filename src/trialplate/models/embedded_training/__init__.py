"""How the embedded models are made: tokenizer, corpus, training, scores, files. Importing the package imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trialplate.models.embedded_training.publish import TargetsMissed, build

__all__ = ["TargetsMissed", "build"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from trialplate.models.embedded_training import publish as module

    return getattr(module, name)
