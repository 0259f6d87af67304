"""Labelled texts in two domains: a probe is trained on the source and tested on source and target. The shift is in the texts, the question stays.

    attractor   is the subject plural?        source "The keys hang here."          target "The keys near the door hang here."
    phrasing    is the country in Europe?     source "The capital of Chad is ..."   target "My friend moved to Chad and lives in its capital, ..."

The nouns (countries) of the test come in no text that a probe is trained or chosen on. Each test text stands in both domains, with the same
content: what a shift costs is then a difference within pairs. Classes are balanced in every part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from trialplate.tasks.jsonl import Record, read_records
from trialplate.tasks.lexicon import ATTRACTOR_LINKS, COUNTRIES, ENDINGS, NOUNS, VERBS
from trialplate.tasks.probes.agreement import Clause
from trialplate.tasks.probes.facts import CAPITAL_TEMPLATES

SHARES = (0.5, 0.2)
"""Of the groups (nouns, countries): training and validation; the rest is tested on."""
MOST_DRAWS_IN_VAIN = 1000
LARGEST: Mapping[str, int] = {"attractor": 400, "phrasing": 96}
"""Texts to train on that every seed has room for; for one shift that is what there is, for the other what is needed."""


class Text(NamedTuple):
    """A text, its class (0 or 1), and the group that it resembles others by: a noun, a country."""

    text: str
    label: int
    group: str


@dataclass(frozen=True)
class ShiftedTexts:
    """train, valid, source: texts of the source domain; target: of the shifted one. `paired` where source[i] and target[i] have one content.

    question, source_is, target_is: in words."""

    name: str
    question: str
    source_is: str
    target_is: str
    train: tuple[Text, ...]
    valid: tuple[Text, ...]
    source: tuple[Text, ...]
    target: tuple[Text, ...]
    paired: bool

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of every text with its label, part by part."""
        parts = [list(map(list, part)) for part in (self.train, self.valid, self.source, self.target)]
        return hashlib.sha256(json.dumps([self.name, self.paired, parts]).encode()).hexdigest()


class _Pair(NamedTuple):
    source: Text
    target: Text


class _Shift(NamedTuple):
    question: str
    source_is: str
    target_is: str
    groups: tuple[str, ...]
    draw: Callable[[Random, str, int], _Pair]
    labels: Callable[[str], tuple[int, ...]]
    """The classes that a group has texts of."""


def shifted_texts(name: str, n: int, seed: int) -> ShiftedTexts:
    """n texts to train on, and n / 2 each to choose by and to test on (in both domains); the same for the same seed on every machine.

    ValueError for an unknown name, an n that is not a multiple of four, or more different texts than there are."""
    if name not in SHIFTS:
        raise ValueError(f"no shift is named {name!r}; there are {', '.join(SHIFTS)}, and files of your own")
    if n < 4 or n % 4:
        raise ValueError(
            f"shifted_texts: n = {n}, wanted a multiple of 4, so that both classes have as many texts in every part"
        )
    shift, rng = SHIFTS[name], Random(f"shifted_texts:{name}:{seed}")
    by_label = {label: [g for g in shift.groups if label in shift.labels(g)] for label in (0, 1)}
    parts = _split(shift.groups, by_label, rng)
    drawn = [_balanced(name, shift, groups, size, rng) for groups, size in zip(parts, (n, n // 2, n // 2), strict=True)]
    train, valid, test = ([pair.source for pair in part] for part in drawn)
    target = [pair.target for pair in drawn[2]]
    about = (name, shift.question, shift.source_is, shift.target_is)
    return ShiftedTexts(*about, tuple(train), tuple(valid), tuple(test), tuple(target), True)


def read_shift(path: Path, seed: int) -> ShiftedTexts:
    """A shift from a file of JSON Lines: {"text", "label": 0 or 1, "domain": "source" or "target", "group": optional}.

    Groups (without any: texts) of the source are dealt to training, validation and test as in the generated shifts; a target text whose group was
    trained on is left out. Nothing is paired. RowError for a line that is not this, ValueError where a part is left without one of the classes."""
    rows = [_row(record) for record in read_records(path)]
    source, target = ([text for domain, text in rows if domain == where] for where in ("source", "target"))
    groups = sorted({text.group for text in source})
    Random(f"read_shift:{seed}").shuffle(groups)
    cuts = _cuts(len(groups))
    dealt = [set(groups[low:high]) for low, high in cuts]
    train, valid, test = (tuple(text for text in source if text.group in part) for part in dealt)
    seen = dealt[0] | dealt[1]
    moved = tuple(text for text in target if text.group not in seen)
    for part, texts in {"training": train, "validation": valid, "source test": test, "target test": moved}.items():
        if {text.label for text in texts} != {0, 1}:
            raise ValueError(
                f"{path}: the {part} has {len(texts)} texts and not both classes; give more groups of both"
            )
    return ShiftedTexts(path.name, "the labels of the file", "source", "target", train, valid, test, moved, False)


def _row(record: Record) -> tuple[str, Text]:
    record.refuse_others(("text", "label", "domain", "group"))
    text, domain = record.text("text"), record.choice("domain", ("source", "target"))
    label = record.whole("label", 0, 1)
    if label is None:
        record.fail("label", "wanted 0 or 1, got no such key")
    return domain, Text(text, label, record.text("group", text))


def _cuts(n: int) -> list[tuple[int, int]]:
    first, second = round(SHARES[0] * n), round(sum(SHARES) * n)
    return [(0, first), (first, second), (second, n)]


def _split(groups: Sequence[str], by_label: Mapping[int, Sequence[str]], rng: Random) -> list[list[str]]:
    """Groups of training, validation and test; where a group has one class only, each class is dealt on its own."""
    dealt: list[list[str]] = [[], [], []]
    kinds = [list(groups)] if by_label[0] == by_label[1] else [list(by_label[0]), list(by_label[1])]
    for kind in kinds:
        rng.shuffle(kind)
        for part, (low, high) in zip(dealt, _cuts(len(kind)), strict=True):
            part += kind[low:high]
    return dealt


def _balanced(name: str, shift: _Shift, groups: Sequence[str], n: int, rng: Random) -> list[_Pair]:
    """n pairs of different source texts, half of each class, in mixed order."""
    found: dict[str, _Pair] = {}
    for label in (0, 1):
        able, in_vain, wanted = [g for g in groups if label in shift.labels(g)], 0, len(found) + n // 2
        while len(found) < wanted:
            before = len(found)
            pair = shift.draw(rng, rng.choice(able), label)
            found.setdefault(pair.source.text, pair)
            in_vain = 0 if len(found) > before else in_vain + 1
            if in_vain == MOST_DRAWS_IN_VAIN:
                raise ValueError(
                    f"{name}: wanted {n} texts of {len(groups)} groups, only {before} different ones were found; ask for fewer"
                )
    pairs = list(found.values())
    rng.shuffle(pairs)
    return pairs


def _attractor(rng: Random, noun: str, label: int) -> _Pair:
    verb = rng.choice(tuple(VERBS))
    plain = Clause(noun, bool(label), verb)
    other = rng.choice([n for n in NOUNS if n != noun])
    moved = plain._replace(attractor=other, attractor_plural=not label, link=rng.choice(ATTRACTOR_LINKS))
    ending = rng.choice(ENDINGS[verb])
    first, second = (f"{clause.prompt} {clause.right} {ending}." for clause in (plain, moved))
    return _Pair(Text(first, label, noun), Text(second, label, noun))


def _phrasing(rng: Random, country: str, label: int) -> _Pair:
    about = _COUNTRY[country]
    half = len(CAPITAL_TEMPLATES) // 2
    templates = rng.choice(CAPITAL_TEMPLATES[:half]), rng.choice(CAPITAL_TEMPLATES[half:])
    first, second = (f"{template.format(name=country)} {about.capital}." for template in templates)
    return _Pair(Text(first, label, country), Text(second, label, country))


_COUNTRY = {country.name: country for country in COUNTRIES}
SHIFTS: Mapping[str, _Shift] = {
    "attractor": _Shift(
        "is the subject plural?",
        "a plain clause",
        "a noun of the other number between subject and verb",
        tuple(NOUNS),
        _attractor,
        lambda noun: (0, 1),
    ),
    "phrasing": _Shift(
        "is the country in Europe?",
        "four phrasings of its capital",
        "four other phrasings",
        tuple(_COUNTRY),
        _phrasing,
        lambda country: (int(_COUNTRY[country].continent == "Europe"),),
    ),
}
