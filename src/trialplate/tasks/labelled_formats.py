"""Readers of labelled texts in the formats of the sets that coders are usually probed on, as local JSON Lines.

    bias_in_bios  {"hard_text", "profession", "gender"}               label: profession; second label: gender
    amazon        {"text" or "review_body", "label" or "star_rating"}
    ag_news       {"text", "label"}
    europarl      {"translation": {"en": .., "fr": ..}}, a text for each language, or {"text", "language"}
    github_code   {"code", "language"}

Other fields are ignored. Labels are strings or whole numbers, and become strings. The split follows from the text (60, 20, 20 %), so that a
repeated text never stands in two splits; a row that repeats text and labels counts once. A row that does not fit is a `FormatError` naming file,
line and key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trialplate.tasks.formats import FormatError
from trialplate.tasks.jsonl import Record, did_you_mean, read_records, shown
from trialplate.tasks.labelled_texts import LabelledSet, LabelledText, labelled_text, split_of_content

Row = tuple[str, str, str]
"""(text, label, second label or "")."""


def read_labelled(path: Path | str, kind: str, name: str | None = None) -> LabelledSet:
    """The texts of a file, in order; kind: a name in `READERS`; name: of the set (default: kind).

    KeyError for an unknown kind; FormatError for a file that cannot be read, is empty, has a row that does not fit, or one class only."""
    if kind not in READERS:
        raise KeyError(f"no reader {kind!r}{did_you_mean(kind, READERS)}; known: {', '.join(READERS)}")
    found: dict[Row, LabelledText] = {}
    for record in read_records(path, FormatError):
        for text, label, second in READERS[kind](record):
            found.setdefault((text, label, second), labelled_text((text,), label, split_of_content(text), second))
    classes = {label for _, label, _ in found}
    if len(classes) < 2:
        raise FormatError(
            path, 0, "", f"{len(found)} texts of {sorted(classes)}; a probe tells at least two classes apart"
        )
    return LabelledSet(name or kind, tuple(found.values()))


def _bias_in_bios(record: Record) -> Iterator[Row]:
    yield _text(record, "hard_text"), _label(record, "profession"), _label(record, "gender")


def _amazon(record: Record) -> Iterator[Row]:
    yield (
        _text(record, _present(record, "text", "review_body")),
        _label(record, _present(record, "label", "star_rating")),
        "",
    )


def _ag_news(record: Record) -> Iterator[Row]:
    yield _text(record, "text"), _label(record, "label"), ""


def _europarl(record: Record) -> Iterator[Row]:
    if "translation" not in record.data:
        yield _text(record, "text"), _label(record, "language"), ""
        return
    inner = record.inner("translation")
    if len(inner.data) < 2:
        record.fail("translation", f"wanted a text in each of at least two languages, got {sorted(inner.data)}")
    for language in inner.data:
        yield _text(inner, language), language, ""


def _github_code(record: Record) -> Iterator[Row]:
    yield _text(record, "code"), _label(record, "language"), ""


READERS: Mapping[str, Callable[[Record], Iterator[Row]]] = {
    "bias_in_bios": _bias_in_bios,
    "amazon": _amazon,
    "ag_news": _ag_news,
    "europarl": _europarl,
    "github_code": _github_code,
}
"""Rows of one record, by kind."""


def _present(record: Record, *keys: str) -> str:
    """The first key that is there; the first of all where none is, so that the complaint names it."""
    return next((key for key in keys if record.has(key)), keys[0])


def _text(record: Record, key: str) -> str:
    text = record.text(key)
    if not text.strip():
        record.fail(key, "wanted a text, got white space only: there are no activations without tokens")
    return text


def _label(record: Record, key: str) -> str:
    value = record.data.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        record.fail(
            key,
            f"wanted a label, a string or a whole number; got {'no such key' if key not in record.data else shown(value)}",
        )
    if isinstance(value, float):
        if not value.is_integer():
            record.fail(key, f"wanted a label, a string or a whole number; got {shown(value)}")
        return str(int(value))  # star ratings are often written 5.0
    return str(value)
