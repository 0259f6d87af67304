"""Results of studies as pictures read them: one JSON file a study, named after its role, and the curves of a coder's training.

A result is `<role>.json` with the schema below; an estimate in it is {"value", "ci", ...}. A study of which no picture is drawn is found all the same,
and said to be left out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from trialplate.figures.style import FigureError

SCHEMA = "trialplate-coder-study/1"
CURVES = "metrics.ndjson"
"""One line of JSON a logging step of a training, in the coder's folder."""
TRAINING = "training.json"
"""What a coder's folder says of its training, the numbers on held-out rows among it."""


class Spread(NamedTuple):
    """A value with the ends of its interval; both ends are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Study:
    """The result of one study: the file, its role, the run, its configuration, the model and site that it is of, the rows that it judged on as pictures
    name them, and where its pictures go unless told otherwise."""

    path: Path
    role: str
    run: str
    result: Mapping[str, Any]
    config: Mapping[str, Any]
    model: str
    site: str
    rows: str
    home: Path

    @property
    def place(self) -> str:
        """The model and the site, as far as they are known."""
        return f"{self.model} {self.site}".strip()

    @contextmanager
    def read(self) -> Iterator[Mapping[str, Any]]:
        """The result, to take rows from: what it lacks becomes a FigureError that names the file."""
        try:
            yield self.result
        except (KeyError, TypeError, IndexError) as error:
            raise FigureError(
                f"{self.path} is no result of {self.role} as pictures read it: {type(error).__name__} {error}; write it again with this release"
            ) from error


@dataclass(frozen=True)
class Curves:
    """What one training wrote down: its lines, its numbers on rows that it never saw (empty where they are not known), the model and site that it read
    ("" where it does not say), and the L0 that it was to reach (None where it had no such aim)."""

    path: Path
    name: str
    lines: tuple[Mapping[str, Any], ...]
    held_out: Mapping[str, float]
    place: str
    l0_target: float | None
    home: Path


def spread(estimate: Mapping[str, Any] | float | None) -> Spread:
    """An estimate as results hold it, or a bare number; NaN where there is none."""
    if estimate is None:
        return Spread(math.nan)
    if not isinstance(estimate, Mapping):
        return Spread(float(estimate))
    ends = estimate["ci"]
    return Spread(float(estimate["value"]), *([] if ends is None else map(float, ends)))


def is_study(path: Path) -> bool:
    """Whether a file is the result of a study, by its first words: a folder may hold other JSON."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return f'"{SCHEMA}"' in file.read(200)


def read_study(path: Path, home: Path) -> Study:
    """Raises FigureError for a file that is not one, OSError where it cannot be read."""
    found = _object(path, path.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA or not isinstance(found.get("result"), dict) or "role" not in found:
        raise FigureError(
            f"{path}: wanted the result of a study (schema {SCHEMA}), got schema {found.get('schema')!r}; give the <role>.json of a run folder"
        )
    subject, config = found.get("subject") or {}, found.get("config") or {}
    return Study(
        path,
        str(found["role"]),
        str(found.get("run", "")),
        found["result"],
        config,
        str(subject.get("model", "")),
        _site(subject, subject.get("about_rows"), config.get("rows")),
        _rows(found["result"], subject),
        home,
    )


def read_curves(path: Path, home: Path) -> Curves:
    """The lines of a training's metrics.ndjson, and its numbers on held-out rows from the training.json beside it. A last line that was being
    written is left out; FigureError for any other that is no JSON, and for a file without lines."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1].splitlines()
    lines = tuple(_object(path, line) for line in whole if line.strip())
    if not lines:
        raise FigureError(
            f"{path} has no whole line; it is written as training goes, so draw it when the first is there"
        )
    beside = path.with_name(TRAINING)
    said = _object(beside, beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    held_out, config, settings = said.get("held_out"), said.get("config") or {}, said.get("settings") or {}
    numbers = (
        {k: float(v) for k, v in held_out.items() if isinstance(v, int | float)} if isinstance(held_out, dict) else {}
    )
    place = f"{config.get('model') or ''} {_site(config, said.get('about_rows'))}".strip()
    return Curves(path, path.resolve().parent.name, lines, numbers, place, settings.get("l0_target"), home)


def _site(*places: Mapping[str, Any] | None) -> str:
    """The site that the first of these names, with what it is written to where that is another one; "" where none does."""
    for one in places:
        if one and one.get("site_in"):
            came, goes = str(one["site_in"]), str(one.get("site_out") or one["site_in"])
            return came if came == goes else f"{came} → {goes}"
    return ""


def _rows(result: Mapping[str, Any], subject: Mapping[str, Any]) -> str:
    """What may be said of the rows. They are held out where the result says so, and where the study trained the coders itself and names by digest both
    the rows that it trained on and the other ones that it judged on, at every site."""
    if "rows_seen_in_training" in result:
        seen = str(result["rows_seen_in_training"])
        return "held-out rows" if seen == "no" else f"rows (seen in training: {seen})"
    parts = list((subject.get("sites") or {"": subject}).values())
    own = all(one.get("held_out") and one["held_out"] != one.get("rows") for one in parts)
    return "held-out rows" if own else "rows (seen in training: unknown)"


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise FigureError(
            f"{path} is not JSON as studies write it: {error}; write it again with the command that made it"
        ) from error
    if not isinstance(found, dict):
        raise FigureError(f"{path}: wanted an object, got {type(found).__name__}")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
