"""Settings on layers for the length of a `with` block: overrides, slot masks and refinement interventions are restored whatever happens."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def setting(layers: nn.Module | Iterable[nn.Module], **attributes: Any) -> Iterator[None]:
    """Set attributes such as `routing_override`, `slot_mask` or `_intv_mode` on one attention layer or several, and restore them after.

    Raises AttributeError, before anything is changed, if a layer has no such attribute."""
    chosen = [layers] if isinstance(layers, nn.Module) else list(layers)
    for layer in chosen:
        for name in attributes:
            if name not in vars(layer):
                near = difflib.get_close_matches(name, vars(layer), n=1)
                raise AttributeError(
                    f"{type(layer).__name__} has no setting {name!r}{f'; nearest is {near[0]!r}' if near else ''}"
                )
    before = [{name: vars(layer)[name] for name in attributes} for layer in chosen]
    try:
        for layer in chosen:
            vars(layer).update(attributes)
        yield
    finally:
        for layer, old in zip(chosen, before, strict=True):
            vars(layer).update(old)
