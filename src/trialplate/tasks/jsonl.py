"""JSON Lines, read strictly: every complaint names file, line and key, what was wanted, what was found and the nearest name.

Blank lines and lines that begin with `#` are skipped. A line is one JSON object in UTF-8 without NaN, infinity, repeated keys or
lone surrogates. Any bytes whatever give either records or one `RowError`, never another exception."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors put in front of UTF-8


class RowError(ValueError):
    """A line that cannot be used. path, line (from 1; 0 = the whole file) and key ("" = the line itself) say where."""

    def __init__(self, path: Path | str, line: int, key: str, problem: str) -> None:
        self.path, self.line, self.key, self.problem = Path(path), line, key, problem
        where = f"{path}:{line}" if line else f"{path}"
        key = key if key.isprintable() and len(key) <= 80 else f"{key[:80]!r}"
        super().__init__(f"{where}: {f'`{key}`: ' if key else ''}{problem}")


@dataclass(slots=True)
class Record:
    """One object of a file, asked key by key; the asker states the type and gets a `RowError` that says where it fails."""

    data: Mapping[str, Any]
    path: Path
    line: int
    prefix: str = ""
    error: type[RowError] = RowError

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raises the error of this file at this line; `key` is local and gets the prefix of its object."""
        raise self.error(self.path, self.line, self.prefix + key if key else self.prefix.rstrip("."), problem)

    def has(self, key: str) -> bool:
        """Whether the key is there with a value (null counts as absent)."""
        return self.data.get(key) is not None

    def text(self, key: str, default: str | None = None, *, empty: bool = False) -> str:
        """A string; required when there is no default. An empty one is refused unless `empty`."""
        value = self._get(key, "a string", default)
        if not isinstance(value, str):
            self.fail(key, f"wanted a string, got {shown(value)}")
        if not value and not empty and value != default:
            self.fail(key, "wanted a string with something in it, got an empty one")
        return value

    def whole(self, key: str, least: int = 1, most: int = 2**53) -> int | None:
        """An integer in [least, most], or None where the key is absent or null."""
        value = self._get(key, "an integer", default=None, optional=True)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(key, f"wanted an integer, got {shown(value)}")
        if not least <= value <= most:
            self.fail(key, f"wanted an integer from {least} to {most}, got {shown(value)}")
        return value

    def number(self, key: str) -> float | None:
        """A finite number, or None where the key is absent or null."""
        value = self._get(key, "a number", default=None, optional=True)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 2**1000:
            self.fail(key, f"wanted a number, got {shown(value)}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._get(key, "true or false", default)
        if not isinstance(value, bool):
            self.fail(key, f"wanted true or false, got {shown(value)}")
        return value

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of the allowed strings."""
        value = self._get(key, f"one of {', '.join(allowed)}", default)
        if not isinstance(value, str) or value not in allowed:
            self.fail(key, f"wanted one of {', '.join(allowed)}; got {shown(value)}{did_you_mean(value, allowed)}")
        return value

    def texts(self, key: str, *, least: int = 1) -> tuple[str, ...]:
        """A list of non-empty strings; absent counts as empty, which `least` may refuse."""
        value = self._get(key, "a list of strings", default=None, optional=least == 0)
        if value is None:
            return ()
        if not isinstance(value, list) or any(not isinstance(entry, str) or not entry for entry in value):
            self.fail(key, f"wanted a list of non-empty strings, got {shown(value)}")
        if len(value) < least:
            self.fail(key, f"wanted a list of at least {least} string{'s' * (least > 1)}, got {len(value)}")
        return tuple(value)

    def inner(self, key: str) -> Record:
        """The object under the key."""
        value = self._get(key, "an object", None)
        if not isinstance(value, dict):
            self.fail(key, f"wanted an object, got {shown(value)}")
        return Record(value, self.path, self.line, f"{self.prefix}{key}.", self.error)

    def inners(self, key: str) -> list[Record]:
        """The objects of the list under the key; none where it is absent."""
        value = self._get(key, "a list of objects", default=None, optional=True)
        if value is None:
            return []
        if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
            self.fail(key, f"wanted a list of at least one object, got {shown(value)}")
        names = [f"{self.prefix}{key}[{index}]." for index in range(len(value))]
        return [Record(entry, self.path, self.line, name, self.error) for entry, name in zip(value, names, strict=True)]

    def refuse_others(self, known: Collection[str], hint: Callable[[str], str] = lambda key: "") -> None:
        """Fails on the first key that is not known, with the nearest one that is."""
        for key in self.data:
            if key not in known:
                self.fail(key, f"unknown key{did_you_mean(key, known)}{hint(key)}; known: {', '.join(sorted(known))}")

    def _get(self, key: str, wanted: str, default: Any = None, *, optional: bool = False) -> Any:
        value = self.data.get(key)
        if value is not None:
            return value
        if default is None and not optional:
            self.fail(key, f"wanted {wanted}, got {'null' if key in self.data else 'no such key'}")
        return default


def read_records(path: Path | str, error: type[RowError] = RowError) -> Iterator[Record]:
    """The objects of a file, in order. `error` when the file cannot be read or a line is not one JSON object."""
    try:
        content = Path(path).read_bytes()
    except OSError as cause:
        raise error(path, 0, "", f"cannot be read: {cause.strerror or cause}") from cause
    return parse_records(content, path, error)


def parse_records(content: bytes, path: Path | str, error: type[RowError] = RowError) -> Iterator[Record]:
    """As `read_records`, from bytes; `path` is the name for the messages."""
    # split at newlines only: U+2028 and its kind are legal inside a JSON string
    for line, raw in enumerate(content.removeprefix(_MARK).split(b"\n"), start=1):
        stripped = raw.strip()
        if stripped and not stripped.startswith(b"#"):
            yield Record(_object(stripped, path, line, error), Path(path), line, error=error)


def read_document(path: Path | str, error: type[RowError] = RowError) -> Record:
    """The one JSON object that a file holds, over as many lines as it likes; as strict as `read_records`."""
    try:
        content = Path(path).read_bytes()
    except OSError as cause:
        raise error(path, 0, "", f"cannot be read: {cause.strerror or cause}") from cause
    return Record(_object(content.removeprefix(_MARK), path, 0, error), Path(path), 0, error=error)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """'; did you mean X?' with the nearest of the known names, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else ""


def shown(value: object) -> str:
    """A value for a message: its JSON type and the beginning of its text."""
    kind = {str: "string", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}.get(
        type(value)
    )
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        return "an integer of more than 18 digits"
    text = "null" if value is None else repr(value)
    return f"{kind or 'null'} {text[:60]}{'…' if len(text) > 60 else ''}" if kind else text


class _Refused(ValueError):
    """Legal for Python's parser, refused here."""


def _object(raw: bytes, path: Path | str, line: int, error: type[RowError]) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)
        if "\\u" in text:  # only an escape can smuggle in half of a surrogate pair
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as cause:
        raise error(
            path, line, "", f"not UTF-8 at byte {cause.start} ({cause.reason}); save the file as UTF-8"
        ) from cause
    except UnicodeEncodeError as cause:
        raise error(path, line, "", "a string holds half of a surrogate pair; write the character itself") from cause
    except json.JSONDecodeError as cause:
        where = f"column {cause.colno}" if line else f"line {cause.lineno} column {cause.colno}"
        raise error(path, line, "", f"not JSON: {cause.msg} at {where}; one object is wanted") from cause
    except RecursionError as cause:
        raise error(path, line, "", "nested too deeply to be a record") from cause
    except ValueError as cause:
        raise error(path, line, "", f"not usable JSON: {cause}") from cause
    if not isinstance(value, dict):
        raise error(path, line, "", f"wanted one JSON object a line, got {shown(value)}")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a number that JSON knows")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"{text[:30]} is larger than any float")
    return value
