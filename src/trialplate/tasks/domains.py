"""Texts of six domains, to be read and not scored: code, mathematics, facts, prose, dialogue, reasoning.

They are made of documents of the corpus, so a model that was trained on it is at home in each. Documents differ in length by domain (six
tokens for a sum, twenty-four for a dialogue) and activations differ by position, so a text joins as many of them as make about fifty
tokens of the embedded tokenizer. The documents of a text stay apart: who encodes them puts the end-of-text token between them, as training
did (`trialplate.tasks.stimuli.token_rows`).

Prose, dialogue and reasoning use documents held out of training. The others do not, because too few are held out there: 61 facts, 74 sums and
differences up to 20, and 16 pieces of code in the two shapes that make half of all code. With so few, what a unit does for a domain could
not be told from what it does for one document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from trialplate.tasks.corpus import SHARES
from trialplate.tasks.document import Document, Split

N_TEXTS = 512
"""Texts of a domain where nothing else is asked for."""

MOST_DRAWS_IN_VAIN = 1000


@dataclass(frozen=True, slots=True)
class Domain:
    """parts: domains of the corpus, each in its share there; split of the documents; n_documents in one text."""

    parts: tuple[str, ...]
    split: Split
    n_documents: int


DOMAINS: Mapping[str, Domain] = {
    "domain_code": Domain(("code",), "train", 3),
    "domain_math": Domain(("arithmetic",), "train", 7),
    "domain_facts": Domain(("facts",), "train", 4),
    "domain_prose": Domain(("agreement", "grammar"), "heldout", 6),
    "domain_dialogue": Domain(("dialogue",), "heldout", 2),
    "domain_reasoning": Domain(("ioi",), "heldout", 3),
}
"""By the name of the generator in a manifest line."""

Text = tuple[str, ...]
"""The documents of one text, in order."""


def domain_texts(name: str, n: int | None, seed: int) -> list[Text]:
    """n different texts of a domain (n=None: N_TEXTS); the same for the same seed on every machine, and the first n of any longer list.

    No document comes twice in a text. Texts are drawn independently: two of them may share a document, as they do in the corpus.
    KeyError for an unknown domain; ValueError for n < 1, and where n different texts do not exist."""
    domain = DOMAINS[name]
    wanted = N_TEXTS if n is None else n
    if wanted < 1:
        raise ValueError(f"{name}: asked for n = {n} texts, n must be at least 1 (or None for {N_TEXTS})")
    rng = Random(f"{name}:{seed}")
    found: dict[Text, None] = {}
    in_vain = 0
    while len(found) < wanted:
        before = len(found)
        found.setdefault(_text(domain, rng))
        in_vain = 0 if len(found) > before else in_vain + 1
        if in_vain == MOST_DRAWS_IN_VAIN:
            raise ValueError(
                f"{name}: asked for n = {wanted} texts, only {before} different ones were found; ask for fewer"
            )
    return list(found)


def _text(domain: Domain, rng: Random) -> Text:
    documents: dict[str, None] = {}
    while len(documents) < domain.n_documents:
        documents.setdefault(_document(domain, rng).text)
    return tuple(documents)


def _document(domain: Domain, rng: Random) -> Document:
    shares, makers = zip(*(SHARES[part] for part in domain.parts), strict=True)
    return rng.choices(makers, weights=shares)[0](rng, domain.split)
