"""Settings on layers for the length of a `with` block: overrides, slot masks and refinement interventions are restored whatever happens."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@contextmanager
def setting(layers: nn.Module | Iterable[nn.Module], **attributes: Any) -> Iterator[None]:
    """Set attributes such as `routing_override`, `slot_mask` or `_intv_mode` on one attention layer or several, and restore them after.
    The layers themselves are changed, so other threads that use them see it.

    Raises AttributeError, before anything is changed, if a layer has no such attribute."""
    chosen = [layers] if isinstance(layers, nn.Module) else list(layers)
    for layer in chosen:
        for name in attributes:
            settings = vars(layer).keys() - _OF_EVERY_MODULE
            if name not in settings:
                near = difflib.get_close_matches(name, settings, n=1)
                hint = (
                    f"; nearest is {near[0]!r}"
                    if near
                    else "; settings are those of attention layers, such as model.layers[0]"
                )
                raise AttributeError(f"{type(layer).__name__} has no setting {name!r}{hint}")
    before = [{name: vars(layer)[name] for name in attributes} for layer in chosen]
    try:
        for layer in chosen:
            vars(layer).update(attributes)
        yield
    finally:
        for layer, old in zip(chosen, before, strict=True):
            vars(layer).update(old)
