"""A coder's description as plain JSON data, and back. Written beside the weights, so that what a file format has no word for survives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from trialplate.sae.config import CoderConfig
from trialplate.sae.errors import CoderError, FormatError
from trialplate.sae.formats.assembly import configure

SCHEMA = "trialplate-coder/1"
_FIELDS = {field.name for field in fields(CoderConfig)}


def plain(config: CoderConfig) -> dict[str, Any]:
    """The description with its schema. CoderError where `about` holds what JSON cannot: objects, NaN, keys that are no text."""
    entries = {name: getattr(config, name) for name in _FIELDS}
    entries |= {"prefixes": list(config.prefixes), "about": dict(config.about)}
    try:
        text = json.dumps(entries, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CoderError(f"the `about` of a coder is plain JSON data, and this one is not: {error}") from error
    return {"schema": SCHEMA, "config": json.loads(text)}


def described(entries: Any, where: str) -> CoderConfig:
    """The description that `plain` made. FormatError for another schema, unknown or missing keys, and for what no coder can be."""
    if not isinstance(entries, Mapping) or entries.get("schema") != SCHEMA:
        got = entries.get("schema") if isinstance(entries, Mapping) else type(entries).__name__
        raise FormatError(
            f"{where}: wanted a description with schema {SCHEMA}, got {got!r}; another release may read it"
        )
    config = entries.get("config")
    if not isinstance(config, Mapping) or (amiss := sorted(set(config) ^ _FIELDS)):
        what = f"missing or unknown: {', '.join(amiss)}" if isinstance(config, Mapping) else f"got {config!r}"
        raise FormatError(f"{where}: wanted a description with the keys {', '.join(sorted(_FIELDS))}; {what}")
    return configure(where, **config)
