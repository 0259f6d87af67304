"""Readers of the public JSON Lines formats of LAMBADA, PIQA, ARC, SciQ and BLiMP: rows into what a model is asked.

Contexts, continuations and gold follow the task definitions of lm-evaluation-harness, so that numbers compare. Every continuation
carries its leading space (the harness's `target_delimiter`). A row that does not fit is a `FormatError` naming file, line and key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trialplate.tasks.jsonl import Record, RowError, read_records, shown

DELIMITER = " "


class FormatError(RowError):
    """A row that does not have the fields of its format."""


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """Choose among continuations of a context by likelihood; gold is the index of the right one."""

    id: str
    context: str
    choices: tuple[str, ...]
    gold: int

    @property
    def bare(self) -> tuple[str, ...]:
        """The choices without their delimiter, for a scorer that takes `DELIMITER` apart (`acc_norm` must not count it)."""
        return tuple(choice.removeprefix(DELIMITER) for choice in self.choices)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Characters of each choice without its delimiter: what `acc_norm` divides by."""
        return tuple(map(len, self.bare))


@dataclass(frozen=True, slots=True)
class ClozeItem:
    """Predict the target after the context: right if every token of the target is the most likely one."""

    id: str
    context: str
    target: str


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences that differ in one point; the good one must be more likely. group: the phenomenon (BLiMP's UID).

    lm-evaluation-harness scores each as a continuation of an empty context, with the delimiter before it."""

    id: str
    good: str
    bad: str
    group: str


def read_lambada(path: Path | str) -> list[ClozeItem]:
    """{"text"}: the target is the last word with the space before it, the context all that stands before."""
    return _rows(path, _lambada)


def read_piqa(path: Path | str) -> list[ChoiceQuestion]:
    """{"goal", "sol1", "sol2", "label"}: "Question: GOAL\\nAnswer:" and the two solutions; label is 0 or 1."""
    return _rows(path, _piqa)


def read_arc(path: Path | str) -> list[ChoiceQuestion]:
    """{"question", "choices": {"text", "label"}, "answerKey"}, or the older {"question": {"stem", "choices"}, "answerKey"}.

    "Question: QUESTION\\nAnswer:" and the texts of the choices. Keys are letters or numbers; "1" also finds label "A"."""
    return _rows(path, _arc)


def read_sciq(path: Path | str) -> list[ChoiceQuestion]:
    """{"question", "support", "distractor1" .. "distractor3", "correct_answer"}: the distractors, then the answer (gold 3).

    "SUPPORT\\nQuestion: QUESTION\\nAnswer:"; a missing support leaves the line break, as in the harness."""
    return _rows(path, _sciq)


def read_blimp(path: Path | str) -> list[MinimalPair]:
    """{"sentence_good", "sentence_bad", "UID", "pairID" or "pair_id"}, other fields ignored."""
    return _rows(path, _blimp)


READERS: Mapping[str, Callable[[Path | str], list[ClozeItem] | list[ChoiceQuestion] | list[MinimalPair]]] = {
    "lambada": read_lambada,
    "piqa": read_piqa,
    "arc_easy": read_arc,
    "sciq": read_sciq,
    "minimal_pairs": read_blimp,
}
"""Reader by the name of the shipped sample, `data/samples/NAME.jsonl`."""

Row = TypeVar("Row", ClozeItem, ChoiceQuestion, MinimalPair)


def _rows(path: Path | str, parse: Callable[[Record, str], Row]) -> list[Row]:
    """All rows. Ids come from the content, so that they survive reordering; a repeated row gets `-2`, `-3` behind its id."""
    rows: list[Row] = []
    times: dict[str, int] = {}
    for record in read_records(path, FormatError):
        content = repr(sorted(record.data.items(), key=lambda item: item[0]))
        key = hashlib.sha256(content.encode()).hexdigest()[:12]
        times[key] = times.get(key, 0) + 1
        rows.append(parse(record, key if times[key] == 1 else f"{key}-{times[key]}"))
    if not rows:
        raise FormatError(path, 0, "", "no row in it; there is nothing to score")
    return rows


def _lambada(record: Record, key: str) -> ClozeItem:
    text = record.text("text")
    context, space, word = text.rpartition(" ")
    if not space or not context.strip() or not word.strip():
        record.fail("text", f"wanted words with a last one to predict behind a space, got {shown(text[-40:])}")
    return ClozeItem(f"lambada/{key}", context, space + word)


def _piqa(record: Record, key: str) -> ChoiceQuestion:
    if not record.has("label"):
        record.fail("label", "wanted 0 or 1, got no label; join the rows with their label file first")
    label = record.whole("label", least=0, most=1)
    solutions = (DELIMITER + record.text("sol1"), DELIMITER + record.text("sol2"))
    return ChoiceQuestion(f"piqa/{key}", f"Question: {record.text('goal')}\nAnswer:", solutions, int(label or 0))


def _arc(record: Record, key: str) -> ChoiceQuestion:
    if isinstance(record.data.get("question"), dict):
        inner = record.inner("question")
        question, entries = inner.text("stem"), inner.inners("choices")
        texts, labels = tuple(e.text("text") for e in entries), tuple(e.text("label") for e in entries)
    else:
        inner = record.inner("choices")
        question, texts, labels = record.text("question"), inner.texts("text", least=2), inner.texts("label", least=2)
    if len(texts) != len(labels) or len(set(labels)) < len(labels):
        record.fail("choices", f"wanted one label of its own a text, got {len(texts)} texts and labels {list(labels)}")
    gold = _gold(record, labels)
    choices = tuple(DELIMITER + text for text in texts)
    return ChoiceQuestion(f"arc/{key}", f"Question: {question}\nAnswer:", choices, gold)


def _gold(record: Record, labels: tuple[str, ...]) -> int:
    key = record.text("answerKey")
    letters, numbers = list("ABCDEFGH"), list("12345678")
    twins = dict(zip(letters + numbers, numbers + letters, strict=True))
    for name in (key, twins.get(key, key)):
        if name in labels:
            return labels.index(name)
    return record.fail("answerKey", f"wanted one of the labels {', '.join(labels)}, got {key!r}")


def _sciq(record: Record, key: str) -> ChoiceQuestion:
    names = ("distractor1", "distractor2", "distractor3", "correct_answer")
    choices = tuple(DELIMITER + record.text(name) for name in names)
    context = f"{record.text('support', '', empty=True).lstrip()}\nQuestion: {record.text('question')}\nAnswer:"
    return ChoiceQuestion(f"sciq/{key}", context, choices, len(names) - 1)


def _blimp(record: Record, key: str) -> MinimalPair:
    good, bad, group = record.text("sentence_good"), record.text("sentence_bad"), record.text("UID", "minimal_pairs")
    if good == bad:
        record.fail("sentence_bad", "wanted another sentence than sentence_good, got the same")
    number = record.data.get("pairID", record.data.get("pair_id", key))
    if not isinstance(number, int | str) or isinstance(number, bool):
        record.fail("pairID", f"wanted a number or a string, got {shown(number)}")
    return MinimalPair(f"{group}/{number}", good, bad, group)
