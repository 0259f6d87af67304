"""Facts about sixty-one countries: capital, and the reverse, language and continent.

Eight phrasings of the capital; no phrasing begins another (it would be unlearnable) and none begins with the country. For each
country one phrasing is held out of training, and every phrasing is trained on other countries.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from trialplate.tasks.document import Document, Split
from trialplate.tasks.items import Encode, Item, MetaValue, make_item, take
from trialplate.tasks.lexicon import COUNTRIES, Country

CAPITAL_TEMPLATES = (
    "The capital of {name} is",
    "The capital city of {name} is called",
    "In {name}, the capital is",
    "People who visit {name} often see its capital,",
    "Question: What is the capital of {name}?\nAnswer:",
    "The government of {name} meets in",
    "On the map of {name}, the capital is marked as",
    "My friend moved to {name} and lives in its capital,",
)
REVERSE_TEMPLATES = (
    "The city of {capital} is the capital of",
    "Question: Which country has the capital {capital}?\nAnswer:",
)
LANGUAGE_TEMPLATES = (
    "People in {name} speak",
    "Question: Which language do people speak in {name}?\nAnswer:",
)
CONTINENT_TEMPLATES = (
    "The country of {name} is in",
    "Question: On which continent is {name}?\nAnswer:",
)
Relation = Literal["capital", "reverse", "language", "continent"]
RELATIONS: dict[Relation, tuple[str, ...]] = {
    "capital": CAPITAL_TEMPLATES,
    "reverse": REVERSE_TEMPLATES,
    "language": LANGUAGE_TEMPLATES,
    "continent": CONTINENT_TEMPLATES,
}
_WEIGHTS = (60, 16, 12, 12)


def value_of(relation: Relation, country: Country) -> str:
    """What a relation asks for."""
    return country.name if relation == "reverse" else str(getattr(country, relation))


def prompt_of(relation: Relation, country: Country, template: int) -> str:
    return RELATIONS[relation][template].format(name=country.name, capital=country.capital)


def held_out_template(country: Country) -> int:
    """Index of the one capital phrasing that training never shows for this country."""
    return COUNTRIES.index(country) * 3 % len(CAPITAL_TEMPLATES)


def in_split(relation: Relation, country: Country, template: int, split: Split) -> bool:
    """Only capitals hold phrasings out; the other relations are all trained."""
    held_out = relation == "capital" and template == held_out_template(country)
    return held_out == (split == "heldout")


def document(rng: Random, split: Split) -> Document:
    """One document of the corpus, six in ten about a capital."""
    while True:
        relation: Relation = rng.choices(tuple(RELATIONS), weights=_WEIGHTS)[0]
        country, template = rng.choice(COUNTRIES), rng.randrange(len(RELATIONS[relation]))
        if in_split(relation, country, template, split):
            return Document("facts", prompt_of(relation, country, template), f" {value_of(relation, country)}", ".")


def fact_items(
    encode: Encode, n: int | None, seed: int, *, relation: Relation = "capital", split: Split = "train"
) -> list[Item]:
    """n (country, phrasing) pairs of a relation in a split (n=None: all; capitals: 427 trained, 61 held out).

    answer: the true value; foils: every other value of the relation with as many tokens as the answer in this tokenizer; pairs
    with fewer than three foils are left out. group: the country, so that standard errors see its paraphrases as one cluster."""
    values = sorted({value_of(relation, country) for country in COUNTRIES})
    lengths = {value: len(encode(f" {value}")) for value in values}
    items = []
    for country in COUNTRIES:
        value = value_of(relation, country)
        foils = [f" {other}" for other in values if other != value and lengths[other] == lengths[value]]
        for template in range(len(RELATIONS[relation])):
            if len(foils) >= 3 and in_split(relation, country, template, split):
                facts: dict[str, MetaValue] = {
                    "relation": relation,
                    "country": country.name,
                    "template": template,
                    "split": split,
                }
                prompt = prompt_of(relation, country, template)
                items.append(make_item("facts", prompt, f" {value}", foils, group=country.name, **facts))
    Random(f"facts:{relation}:{split}:{seed}").shuffle(items)
    return take(items, n, f"facts {relation} {split}")


def capital_items(encode: Encode, n: int | None, seed: int, *, split: Split = "train") -> list[Item]:
    """The "Paris margin" for every capital: `fact_items` of the relation capital."""
    return fact_items(encode, n, seed, relation="capital", split=split)
