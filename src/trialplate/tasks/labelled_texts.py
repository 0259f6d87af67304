"""Texts with a label each, in three splits that share no document: what probes on activations are fitted, chosen and tested on.

Made of documents of the corpus, so that a model that was trained on it is at home in each (see `trialplate.tasks.domains`):

    domain     eight classes, the domains of the corpus: told by their words alone, so every coder should manage
    continent  four classes: facts about countries of one continent, which no text names; what a model knows, not what it reads
    place      six classes: people meet at one kind of place, all else is drawn
    register   two classes: facts in the form of questions, or of statements
    kind_by_number   sentences about animals or people (label), in the singular or plural (second label): four combinations, equally many

The split of a document is decided by a hash of its content, and a text uses documents of one split only. Local files of real sets are read by
`trialplate.tasks.labelled_formats`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal, NamedTuple, get_args

from trialplate.tasks.corpus import SHARES
from trialplate.tasks.document import Document
from trialplate.tasks.domains import MOST_DRAWS_IN_VAIN
from trialplate.tasks.lexicon import COUNTRIES, ENDINGS, NOUNS, Country
from trialplate.tasks.probes import agreement, facts, ioi

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_TENTHS: Mapping[Split, range] = {"train": range(6), "valid": range(6, 8), "test": range(8, 10)}


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text.

    id      twelve hexadecimal digits of a hash of text and labels
    parts   its documents, in order; who encodes them puts the end-of-text token between them (`stimuli.token_rows`)
    label   what is asked; second: another label of the text, "" where there is none"""

    id: str
    parts: tuple[str, ...]
    label: str
    split: Split
    second: str = ""

    @property
    def text(self) -> str:
        """The parts, each beginning a line."""
        return "\n".join(self.parts)


@dataclass(frozen=True)
class LabelledSet:
    """Texts of a name. ValueError for none, for one class only, and where two splits share a document: a probe would be tested on what it saw."""

    name: str
    texts: tuple[LabelledText, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(
                f"{self.name}: labelled texts have at least two classes, got {len(self.texts)} texts of {list(self.classes)}"
            )
        where: dict[str, Split] = {}
        for text in self.texts:
            for part in text.parts:
                if where.setdefault(part, text.split) != text.split:
                    raise ValueError(
                        f"{self.name}: a document stands in both {where[part]} and {text.split}: {part[:60]!r}; split by document, not by text"
                    )

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(sorted({text.label for text in self.texts}))

    @property
    def seconds(self) -> tuple[str, ...]:
        """The second labels, sorted; none where texts have none."""
        return tuple(sorted({text.second for text in self.texts if text.second}))

    def of(self, split: Split) -> list[int]:
        """Indices of the texts of a split, in order."""
        return [number for number, text in enumerate(self.texts) if text.split == split]

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of texts, labels and splits in their order: two probes that share it had the same data."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(_canonical([text.parts, text.label, text.second, text.split]) + b"\n")
        return digest.hexdigest()


def split_of_content(content: str) -> Split:
    """The split that a document belongs to: 60 % train, 20 % valid, 20 % test; the same on every machine."""
    tenth = int.from_bytes(hashlib.sha256(f"labelled:{content}".encode()).digest()[:4], "big") % 10
    return next(split for split, tenths in _TENTHS.items() if tenth in tenths)


def labelled_text(parts: tuple[str, ...], label: str, split: Split, second: str = "") -> LabelledText:
    """A text whose id follows from its content and labels."""
    key = hashlib.sha256(_canonical([parts, label, second])).hexdigest()[:12]
    return LabelledText(key, parts, label, split, second)


Make = Callable[[Random], str]
"""One document of a class."""


class Recipe(NamedTuple):
    """How texts of a class are made: documents of one maker, so many in a text."""

    make: Make
    n_documents: int


def labelled_texts(name: str, seed: int = 0, *, train: int = 240, valid: int = 80, test: int = 80) -> LabelledSet:
    """The texts of a generated set: so many different ones of each class (each combination of labels) in each split.

    The same for the same seed on every machine, and a longer list begins with a shorter one. Documents of a text are different, and no two texts
    of a class have the same ones. Texts of one split may share documents: where documents are few (`continent`), texts resemble each other.
    KeyError for an unknown name; ValueError for a split without texts, and where so many different texts do not exist."""
    if name not in RECIPES:
        raise KeyError(f"no labelled texts {name!r}; known: {', '.join(RECIPES)}")
    counts: dict[Split, int] = {"train": train, "valid": valid, "test": test}
    if min(counts.values()) < 1:
        raise ValueError(f"{name}: every split has at least one text a class, got {counts}")
    texts = [
        labelled_text(parts, label, split, other)
        for split, n in counts.items()
        for (label, other), recipe in RECIPES[name].items()
        for parts in _texts(recipe, n, split, Random(f"labelled:{name}:{label}:{other}:{split}:{seed}"))
    ]
    return LabelledSet(name, tuple(texts))


def _texts(recipe: Recipe, n: int, split: Split, rng: Random) -> list[tuple[str, ...]]:
    found: dict[frozenset[str], tuple[str, ...]] = {}
    in_vain = 0
    while len(found) < n:
        before = len(found)
        parts = _parts(recipe, split, rng)
        found.setdefault(frozenset(parts), parts)
        in_vain = 0 if len(found) > before else in_vain + 1
        if in_vain == MOST_DRAWS_IN_VAIN:
            raise ValueError(
                f"asked for {n} texts of a class in {split}, only {before} different ones were found; ask for fewer"
            )
    return list(found.values())


def _parts(recipe: Recipe, split: Split, rng: Random) -> tuple[str, ...]:
    documents: dict[str, None] = {}
    while len(documents) < recipe.n_documents:
        text = recipe.make(rng)
        if split_of_content(text) == split:
            documents.setdefault(text)
    return tuple(documents)


# --- makers --------------------------------------------------------------------------------------------------------------

_CONTINENTS = ("Africa", "America", "Asia", "Europe")
_HIDDEN: tuple[facts.Relation, ...] = ("capital", "reverse", "language")  # that do not name the continent
_PLACES = ("beach", "church", "hospital", "library", "school", "zoo")
_ANIMALS = [
    "bear", "bird", "cat", "cow", "dog", "duck", "fox", "goat", "horse", "lion", "monkey", "rabbit", "tiger", "wolf"
]  # fmt: skip
_THINGS = ["boat", "car", "cloud", "door", "tree", "truck"]
_PEOPLE = [noun for noun in NOUNS if noun not in (*_ANIMALS, *_THINGS)]


def _corpus(domain: str, rng: Random) -> str:
    make: Callable[[Random, Literal["train"]], Document] = SHARES[domain][1]
    return make(rng, "train").text


def _fact(
    countries: tuple[Country, ...], relations: tuple[facts.Relation, ...], question: bool | None, rng: Random
) -> str:
    """A true sentence; question: whether it is one in form, None for either."""
    while True:
        relation, country = rng.choice(relations), rng.choice(countries)
        prompt = facts.prompt_of(relation, country, rng.randrange(len(facts.RELATIONS[relation])))
        if question is None or prompt.startswith("Question") == question:
            return f"{prompt} {facts.value_of(relation, country)}."


def _meeting(place: str, rng: Random) -> str:
    scene = ioi.draw(rng, tuple(range(len(ioi.TRAINED_TEMPLATES))))._replace(place=place)
    subject = rng.choice(scene.names)
    return f"{scene.prompt(subject, rng.choice(('ABBA', 'BABA')))} {scene.answer(subject)}."


def _sentence(nouns: list[str], plural: bool, rng: Random) -> str:
    """A clause whose nouns are all of one kind and number."""
    noun, other = rng.sample(nouns, 2)
    drawn = agreement.Clause(noun, plural, rng.choice(tuple(ENDINGS)))
    if rng.random() < 0.5:
        drawn = drawn._replace(attractor=other, attractor_plural=plural, link=rng.choice(agreement.ATTRACTOR_LINKS))
    return f"{drawn.prompt} {drawn.right} {rng.choice(ENDINGS[drawn.verb])}."


def _of_continent(continent: str) -> tuple[Country, ...]:
    return tuple(country for country in COUNTRIES if country.continent == continent)


_CORPUS_DOCUMENTS = {
    "ioi": 3,
    "arithmetic": 7,
    "facts": 4,
    "agreement": 6,
    "grammar": 6,
    "years": 3,
    "code": 3,
    "dialogue": 2,
}  # about fifty tokens of the embedded tokenizer each: the length of a text must not tell its domain
_KINDS = {"animals": _ANIMALS, "people": _PEOPLE}
_FORMS = {"question": (True, 3), "statement": (False, 5)}

RECIPES: Mapping[str, Mapping[tuple[str, str], Recipe]] = {
    "domain": {(domain, ""): Recipe(partial(_corpus, domain), n) for domain, n in _CORPUS_DOCUMENTS.items()},
    "continent": {(name, ""): Recipe(partial(_fact, _of_continent(name), _HIDDEN, None), 3) for name in _CONTINENTS},
    "place": {(place, ""): Recipe(partial(_meeting, place), 2) for place in _PLACES},
    "register": {
        (form, ""): Recipe(partial(_fact, COUNTRIES, tuple(facts.RELATIONS), asks), n)
        for form, (asks, n) in _FORMS.items()
    },
    "kind_by_number": {
        (kind, number): Recipe(partial(_sentence, nouns, number == "plural"), 4)
        for kind, nouns in _KINDS.items()
        for number in ("singular", "plural")
    },
}
"""By name of the set: (label, second label) -> recipe."""


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
