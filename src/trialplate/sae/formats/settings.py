"""What a coder's configuration file says: plain JSON, keys asked for by name, and never a default for one that decides the function.

A key that a format did not have in its early days, and that had one meaning then, is the one exception; the reader of that format says so."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trialplate.sae.errors import FormatError


class Settings:
    """The entries of a JSON object and the file they come from, for messages."""

    def __init__(self, entries: Mapping[str, Any], where: Path | str) -> None:
        self.entries, self.where = dict(entries), str(where)

    def required(self, name: str) -> Any:
        """An entry that must be there."""
        if name not in self.entries:
            raise FormatError(f"{self.where}: no {name!r}, and without it the function of the coder is not known")
        return self.entries[name]

    def integer(self, name: str) -> int:
        """An entry that must be there and be a whole number; 32.0 counts as one."""
        value = self.real(name)
        if value != int(value):
            raise FormatError(f"{self.where}: wanted {name} to be a whole number, got {value!r}")
        return int(value)

    def real(self, name: str) -> float:
        """An entry that must be there and be a finite number."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise FormatError(f"{self.where}: wanted {name} to be a number, got {value!r}")
        return value

    def flag(self, name: str, absent: bool | None = None) -> bool:
        """An entry that is true or false; `absent` is what an old file without it means, None that there is no such file."""
        value = self.entries.get(name, absent) if absent is not None else self.required(name)
        if not isinstance(value, bool):
            raise FormatError(f"{self.where}: wanted {name} to be true or false, got {value!r}")
        return value

    def text(self, name: str) -> str:
        """An entry that describes and decides nothing; "" where it is absent, null or no text."""
        value = self.entries.get(name)
        return value if isinstance(value, str) else ""

    def section(self, name: str) -> Settings:
        """An object inside this one; empty where it is absent."""
        value = self.entries.get(name) or {}
        if not isinstance(value, dict):
            raise FormatError(f"{self.where}: wanted {name} to be an object, got {value!r}")
        return Settings(value, f"{self.where}, {name}")

    def agree(self, **sizes: int) -> None:
        """FormatError where the file names a size that is not the tensors'."""
        for name, size in sizes.items():
            said = self.entries.get(name)
            if said is not None and said != size:
                raise FormatError(f"{self.where} says {name} = {said!r}, and its tensors say {size}")


def read_settings(path: Path) -> Settings:
    """The object of a JSON file. FormatError for a file that is missing, no JSON, or no object."""
    try:
        # NaN is no JSON, and some projects write it where nothing is read: there it stays, as text.
        entries = json.loads(path.read_text(encoding="utf-8"), parse_constant=str)
    except (OSError, ValueError) as error:
        raise FormatError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(entries, dict):
        raise FormatError(f"{path}: wanted a JSON object, got {type(entries).__name__}")
    return Settings(entries, path)
